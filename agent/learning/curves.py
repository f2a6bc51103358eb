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


def draw_curve(points: Sequence[Point], file: Path) -> None:
    """A PNG of training loss and held-out loss by step, and the KL to the base where there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="nats per token")
    axes.plot([p.step for p in points], [p.loss for p in points], color="#9ca3af", linewidth=0.8)
    smooth = smoothed([p.loss for p in points])
    axes.plot([p.step for p in points], smooth, color="#2563eb", label="training loss")
    lines: tuple[tuple[str, str, list[tuple[int, float]]], ...] = (
        ("held-out loss", "#dc2626", [(p.step, p.heldout) for p in points if p.heldout is not None]),
        ("KL to the base", "#16a34a", [(p.step, p.divergence) for p in points if p.divergence is not None]),
    )
    for name, colour, line in lines:
        if line:
            axes.plot(*zip(*line, strict=True), color=colour, marker="." if len(line) < 40 else "", label=name)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    # Without the date and the version of the library, the same training gives the same file.
    figure.savefig(file, metadata={"Software": None})


def smoothed(values: Sequence[float], memory: float = 0.9) -> list[float]:
    """An exponential moving average, without the pull towards its start."""
    found: list[float] = []
    total = weight = 0.0
    for value in values:
        total, weight = memory * total + (1 - memory) * value, memory * weight + (1 - memory)
        found.append(total / weight)
    return found


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
