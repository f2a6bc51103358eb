"""Many sessions as one sequence of tokens, without padding, and with a common beginning computed once.

The sessions of a micro-batch lie one after another along one token axis. Sessions that begin with the same system
turn share that segment: it is computed once, and every session attends to it and to its own tokens. The gradient is
the one of each session alone, because a token never sees anything but its own session.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.learning.examples import Example

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """Tokens [start, start + count) of a pack: a common beginning (`prefix` None), or a session behind one."""

    start: int
    count: int
    prefix: Segment | None = None


@dataclass(frozen=True)
class Pack:
    """A micro-batch. `ids` and `positions` are [tokens]; the rest has one entry per token to be predicted.

    `at` is the token whose hidden state predicts `labels`, `owner` the number of the session in `examples`, and
    `weights` the session's weight.
    """

    examples: tuple[Example, ...]
    segments: tuple[Segment, ...]
    ids: Tensor
    positions: Tensor
    at: Tensor
    labels: Tensor
    weights: Tensor
    owner: Tensor

    def to(self, device: object) -> Pack:
        """The same on another device."""
        tensors = (self.ids, self.positions, self.at, self.labels, self.weights, self.owner)
        return Pack(self.examples, self.segments, *(tensor.to(device) for tensor in tensors))  # pyright: ignore

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.ids)


def pack(examples: Sequence[Example], *, share: bool = True) -> Pack:
    """Lay `examples` along one axis; `share` computes a common first `Example.shared` tokens once.

    What follows a session's last token with loss has no influence on the loss and is left out.
    """
    import torch

    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    targets: list[tuple[int, int, float, int]] = []
    begun: dict[tuple[int, ...], Segment] = {}
    for number, example in enumerate(examples):
        end = input_length(example)
        prefix = None
        if share and 0 < example.shared < end:
            key = example.ids[: example.shared]
            prefix = begun.get(key)
            if prefix is None:
                prefix = begun[key] = Segment(len(ids), len(key))
                segments.append(prefix)
                ids += key
                positions += range(len(key))
        skipped = prefix.count if prefix is not None else 0
        own = Segment(len(ids), end - skipped, prefix)
        segments.append(own)
        ids += example.ids[skipped:end]
        positions += range(skipped, end)
        for place in range(1, end + 1):
            if example.loss[place]:
                before = place - 1
                at = prefix.start + before if prefix is not None and before < skipped else own.start + before - skipped
                targets.append((at, example.ids[place], example.weight, number))
    at, labels, weights, owner = zip(*targets, strict=True) if targets else ((), (), (), ())
    return Pack(
        tuple(examples),
        tuple(segments),
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(at, dtype=torch.long),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(owner, dtype=torch.long),
    )


def input_length(example: Example) -> int:
    """How many tokens of a session the network reads: those before its last token with loss."""
    return max((place for place in range(1, len(example.ids)) if example.loss[place]), default=0)


def batches(
    examples: Sequence[Example], batch_tokens: int, shuffle: random.Random | None = None, *, share: bool = True
) -> list[list[Example]]:
    """Cut `examples` into micro-batches of about `batch_tokens` computed tokens (at least one session each).

    With `shuffle` in a random order, else in the order given. Sessions without loss are left out.
    """
    chosen = [example for example in examples if input_length(example)]
    if shuffle is not None:
        shuffle.shuffle(chosen)
    found: list[list[Example]] = []
    tokens = 0
    begun: set[tuple[int, ...]] = set()
    for example in chosen:
        cost = _cost(example, begun, share)
        if not found or tokens + cost > batch_tokens:
            found.append([])
            tokens, begun = 0, set()
            cost = _cost(example, begun, share)
        found[-1].append(example)
        tokens += cost
        begun.add(example.ids[: example.shared])
    return found


def computed_tokens(examples: Iterable[Example], *, share: bool = True) -> int:
    """Tokens that a pack of `examples` would compute."""
    total = 0
    begun: set[tuple[int, ...]] = set()
    for example in examples:
        total += _cost(example, begun, share)
        begun.add(example.ids[: example.shared])
    return total


def _cost(example: Example, begun: set[tuple[int, ...]], share: bool) -> int:
    length = input_length(example)
    known = share and 0 < example.shared < length and example.ids[: example.shared] in begun
    return length - example.shared if known else length
