"""How far one model is from another on given sessions: the KL divergence at the tokens that are the model's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.engine.network import Network, Row
from agent.learning.examples import Example

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256
"""Tokens of logits held at a time."""


def mean_divergence(reference: Network, network: Network, examples: Sequence[Example], *, tokens: int = 4000) -> float:
    """Mean KL(reference || network) in nats over the tokens with loss, of examples until `tokens` of them are read.

    Both have the same vocabulary. Raises ValueError without any token to measure at.
    """
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for example in examples:
            for theirs, ours in zip(_at_loss(reference, example), _at_loss(network, example), strict=True):
                total += float((theirs.exp() * (theirs - ours)).sum())
                count += len(theirs)
            if count >= tokens:
                break
    if not count:
        raise ValueError("there is no token to measure at")
    return max(0.0, total / count)


def _at_loss(network: Network, example: Example) -> Iterator[Tensor]:
    """Log-probabilities of what comes next where the model learns, [places, vocabulary], chunk by chunk."""
    import torch

    cache = network.new_cache()
    ids, loss = example.ids[:-1], example.loss[1:]
    for begin in range(0, len(ids), CHUNK):
        chunk = ids[begin : begin + CHUNK]
        places = [n for n, learned in enumerate(loss[begin : begin + CHUNK]) if learned]
        wanted = len(chunk) - places[0] if places else 1
        logits = network.forward([Row(cache, chunk, wanted=wanted)])
        cache.ids += chunk
        if places:
            at = torch.tensor([n - places[0] for n in places], device=logits.device)
            yield logits[at].log_softmax(-1)
