"""How a training went: its losses as JSON lines, in the terminal and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """One optimizer step. `loss` is in nats per token with loss; `heldout` where it was measured after this step."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    """Tokens of the sessions seen so far, common beginnings counted for each."""
    seconds: float
    heldout: float | None = None
    divergence: float | None = None
    """KL(base || model) in nats per token, where the recipe has it."""


def write_curve(points: Sequence[Point], file: Path) -> None:
    """One JSON line a step."""
    file.write_text("".join(json.dumps(asdict(point)) + "\n" for point in points), encoding="utf-8")


def in_terminal(points: Sequence[Point], width: int = 60) -> str:
    """The training loss as a line of bars, highest to lowest, with its first and last value."""
    if not points:
        return ""
    losses = [point.loss for point in points]
    size = -(-len(losses) // width)
    means = [sum(losses[i : i + size]) / len(losses[i : i + size]) for i in range(0, len(losses), size)]
    low, high = min(means), max(means)
    bars = "▁▂▃▄▅▆▇█"
    line = "".join(bars[round((mean - low) / (high - low or 1) * (len(bars) - 1))] for mean in means)
    return f"loss {means[0]:.3f} {line} {means[-1]:.3f}"
