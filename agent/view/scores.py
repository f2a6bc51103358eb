"""Evaluations as tables of plain text: one, or two beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from agent.batch.summary import Group
from agent.evaluation import Comparison, EvalResult, Paired
from agent.sanitize import for_terminal
from agent.view.lines import one_line
from agent.view.progress import seconds


def show_evaluation(result: EvalResult, stream: TextIO) -> None:
    """Success by family and by tag with 95 % intervals, and what it took."""
    groups = [*result.families(), *result.tags(), result.total]
    rows = [("family or tag", "goals", "success", "95 %", "valid", "steps", "tokens", "median"), *map(_group, groups)]
    _table(rows, stream)
    print(file=stream)
    for found in (result.total, *(each for each in result.families() if each.succeeded < each.goals)):
        endings = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.endings.items())
        print(f"{one_line(found.name or 'no family', 40)}: {endings}", file=stream)
    model = " ".join(str(result.model[key]) for key in ("name", "dtype", "device") if result.model.get(key))
    adapter = result.model.get("adapter") or "none"
    print(
        f"model {for_terminal(model)}, adapter {for_terminal(str(adapter))}, {result.in_flight} at a time", file=stream
    )
    if not result.complete:
        print(f"{result.goals - len(result.results)} of {result.goals} goals have no result yet", file=stream)


def show_comparison(comparison: Comparison, stream: TextIO, *, as_json: bool = False) -> None:
    """Both success rates, the gain with its 95 % interval, goals won and lost, McNemar's p."""
    if as_json:
        print(json.dumps(asdict(comparison)), file=stream)
        return
    head = ("family", "goals", "first", "second", "gain", "95 %", "won", "lost", "p", "steps", "tokens")
    _table([head, *map(_pair, comparison.families), _pair(comparison.total)], stream)
    if comparison.unpaired:
        print(f"{comparison.unpaired} results have no partner in the other evaluation and are left out", file=stream)


def _group(group: Group) -> tuple[str, ...]:
    return (
        group.name or "no family",
        f"{group.succeeded}/{group.goals}",
        _percent(group.rate),
        f"{100 * group.low:.0f}-{100 * group.high:.0f} %",
        "-" if group.valid is None else f"{100 * group.valid:.1f} %",
        f"{group.steps:.1f}",
        f"{group.tokens:.0f}",
        seconds(group.seconds),
    )


def _pair(paired: Paired) -> tuple[str, ...]:
    gain = paired.gain
    return (
        paired.name or "no family",
        str(paired.goals),
        _percent(paired.first),
        _percent(paired.second),
        f"{100 * gain.mean:+.1f}",
        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
        str(paired.won),
        str(paired.lost),
        f"{paired.p:.3f}",
        f"{paired.steps:+.1f}",
        f"{paired.tokens:+.0f}",
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _table(rows: Sequence[tuple[str, ...]], stream: TextIO) -> None:
    """Columns as wide as they need be: the first to the left, numbers to the right."""
    cells = [(one_line(row[0], 40), *row[1:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join((row[0].ljust(widths[0]), *numbers)).rstrip(), file=stream)
