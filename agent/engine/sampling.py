"""One token out of a masked distribution, reproducibly.

Sampling is Gumbel-max: argmax of logits / temperature + noise. The noise of a token is a function of the seed, the
step of the session and the token's place in it, computed by a counter-based generator (Philox 4x32-10, Salmon et al.
2011), so it does not depend on who shares the batch, on what was drawn before, or on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature` 0 is greedy; `stream` sets sessions with the same seed apart."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stream: str = ""
    step: int = 0


def choose(logits: Tensor, allowed: Tensor | None, sampling: Sampling, place: int) -> tuple[int, float]:
    """The token at `place` (0 is the first of this step) and the natural log of its probability.

    `logits` is [vocabulary] float32; `allowed` is [vocabulary] bool, None where everything is. The probability is
    that of the masked distribution before temperature and top-p. Raises WhetstoneError for logits that are not numbers.
    """
    import torch

    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    logprobs = torch.log_softmax(logits, dim=-1)
    if sampling.temperature <= 0:
        chosen = int(logits.argmax())
    else:
        scores = logits / sampling.temperature
        if sampling.top_p < 1.0:
            scores = _nucleus(scores, sampling.top_p)
        chosen = int((scores + _gumbel(sampling, place, logits)).argmax())
    logprob = float(logprobs[chosen])
    if logprob != logprob or logprob == float("-inf"):
        raise WhetstoneError(
            "the model's output is not a number, so no token can be chosen: try --dtype fp32, another model or adapter"
        )
    return chosen, logprob


def follow(logits: Tensor, allowed: Tensor, candidates: Sequence[int]) -> tuple[int, float]:
    """The first of `candidates` that is allowed, and its log-probability under the masked distribution.

    Raises WhetstoneError when none is: the text that is followed cannot be written under this grammar.
    """
    import torch

    logprobs = torch.log_softmax(logits.masked_fill(~allowed, -torch.inf), dim=-1)
    for id in candidates:
        if bool(allowed[id]):
            return id, float(logprobs[id])
    raise WhetstoneError("the text cannot be written under this schema")


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """The smallest set of tokens that holds `top_p` of the probability; the others at -inf."""
    import torch

    ordered, order = scores.softmax(dim=-1).sort(descending=True)
    beyond = ordered.cumsum(0) - ordered >= top_p
    return scores.masked_fill(torch.empty_like(beyond).scatter_(0, order, beyond), -torch.inf)


def _gumbel(sampling: Sampling, place: int, like: Tensor) -> Tensor:
    import numpy
    import torch

    key = blake2b(f"{sampling.seed}\0{sampling.stream}".encode(), digest_size=16).digest()
    counter = [0, 0, place, sampling.step]  # the low words count within the vocabulary
    philox = numpy.random.Philox(key=numpy.frombuffer(key, dtype=numpy.uint64), counter=counter)
    uniform = numpy.random.Generator(philox).random(like.shape[0])
    # In float64, for in float32 a draw of almost 1 is 1, and its noise infinite. log1p(-u) keeps the small draws apart
    # from which the largest noise comes.
    noise = -numpy.log(-numpy.log1p(-numpy.maximum(uniform, 1e-30)))
    return torch.from_numpy(noise).to(like.device, torch.float32)
