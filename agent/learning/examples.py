"""What the trainer reads: one session as token ids, with the places the model is to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One whole session as one sequence.

    `ids` and `loss` have one entry per token; `loss[i]` says that the model learns to predict `ids[i]` from what is
    before it. `weight` scales the session's loss. `session`, `digest` (of the journal's last line), `goal` and `family`
    say where it came from; sequences that begin with the same system turn share their first `shared` tokens. `variant`
    is 0 for a session as it was lived; retold ones (`agent.learning.augmenting`) count from 1.
    """

    ids: tuple[int, ...]
    loss: tuple[bool, ...]
    session: str
    digest: str
    goal: str
    family: str = ""
    weight: float = 1.0
    shared: int = 0
    variant: int = 0

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens before the first that the model learns: what it was asked, in what setting."""
        return self.ids[: self.loss.index(True)] if True in self.loss else self.ids

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.loss):
            raise ValueError(f"session {self.session}: {len(self.ids)} tokens but {len(self.loss)} loss marks")


def within(examples: Sequence[Example], tokens: int) -> list[Example]:
    """The first of `examples` that have no more than `tokens` tokens together; at least one, if there are any."""
    found: list[Example] = []
    for example in examples:
        tokens -= len(example.ids)
        if tokens < 0 and found:
            break
        found.append(example)
    return found
