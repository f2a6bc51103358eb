"""What an improvement run is to do, and what came of its rounds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.learning.gate import Rules
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError

ROUNDS = "improve.json"


@dataclass(frozen=True)
class Plan:
    """What an improvement run does. `target` names the families it is for; default: those of the goals.

    `per_goal` is how many different sessions of one goal are kept: the tidiest, or with `ranked` those that a
    discriminator trained on the round's samples scores highest. `shuffle` deals the verdicts out at random, which must
    not pass the gate.
    """

    rounds: int = 3
    samples: int = 8
    temperature: float = 1.0
    per_goal: int = 4
    ranked: bool = False
    target: tuple[str, ...] = ()
    shuffle: bool = False
    seed: int = 0
    in_flight: int = 8
    recipe: Recipe = field(default_factory=lambda: Recipe(kl_weight=1.0))
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Round:
    """One round in figures. Rates are 0 to 1, of held-out goals unless they are `pass_at_`, which is about sampling."""

    number: int
    pass_at_1: float
    pass_at_k: float
    kept: int
    """Sessions learned from."""
    distinct: float
    """Share of different action sequences among them."""
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    adapter: str = ""
    target_before: float = 0.0
    target: float = 0.0
    target_control: float = 0.0
    older_before: float = 0.0
    older: float = 0.0
    steps: float = 0.0
    """Mean of a held-out session of the target."""
    tokens: float = 0.0
    kl: float | None = None
    minutes: float = 0.0


@dataclass(frozen=True)
class Improved:
    """All rounds, and why there are no more of them."""

    rounds: tuple[Round, ...]
    stopped: str

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def read_improved(folder: Path) -> Improved:
    """The rounds in the folder of an improvement run. Raises WhetstoneError if there are none."""
    try:
        data = json.loads((folder / ROUNDS).read_text(encoding="utf-8"))
        given: list[dict[str, Any]] = data["rounds"]
        for each in given:
            each["reasons"] = tuple(each["reasons"])
        rounds = tuple(Round(**each) for each in given)
        return Improved(rounds, data["stopped"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WhetstoneError(f"{folder} holds no improvement run ({error}): make one with `improve`") from error
