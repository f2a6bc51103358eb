"""Choosing tokens of one generation out of the logits of a pass: the next one, and those that a guess foretold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.engine.generation import Generation
from agent.engine.grammar import Vocabulary
from agent.engine.kvcache import common_prefix
from agent.engine.sampling import choose, follow
from agent.engine.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from torch import Tensor


def choose_along(
    generation: Generation, guess: Sequence[int], logits: Tensor, vocabulary: Vocabulary, tokenizer: ModelTokenizer
) -> None:
    """Choose a token, and as many more as the guess foretold. `logits` is [1 + len(guess), vocabulary].

    The cache keeps what was guessed right; it is as if the rest had never been read.
    """
    right = 0
    while True:
        written = len(generation.ids)
        _choose(generation, logits[right], vocabulary, tokenizer)
        new = generation.ids[written:]
        agreed = common_prefix(guess[right:], new)
        right += agreed
        if generation.done or agreed < len(new):
            break
    generation.drafted += len(guess)
    generation.accepted += right
    generation.cache.ids += guess[:right]


def _choose(generation: Generation, logits: Tensor, vocabulary: Vocabulary, tokenizer: ModelTokenizer) -> None:
    started = time.perf_counter()
    allowed = _allowed(generation, logits)
    masked = time.perf_counter()
    request = generation.request
    if request.follow is None:
        id, logprob = choose(logits, allowed, request.sampling, len(generation.ids))
    else:
        rest = request.follow.encode()[generation.written :]
        id, logprob = follow(logits, allowed, vocabulary.next_of(rest, tokenizer))
    generation.milliseconds.setdefault("first_token", (time.monotonic() - generation.started) * 1000)
    generation.take(id, logprob)
    generation.milliseconds["mask"] += (masked - started) * 1000
    generation.milliseconds["sample"] += (time.perf_counter() - masked) * 1000


def _allowed(generation: Generation, logits: Tensor) -> Tensor:
    import numpy
    import torch

    bits = numpy.frombuffer(generation.mask(), dtype=numpy.uint8)
    allowed = numpy.unpackbits(bits, count=logits.shape[0], bitorder="little").view(numpy.bool_)
    request = generation.request
    if request.barred and len(generation.ids) == len(request.said):
        others = allowed.copy()
        others[list(request.barred)] = False
        allowed = others if others.any() else allowed
    return torch.from_numpy(allowed).to(logits.device)
