"""The table that says what memory is worth."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from agent.sanitize import for_terminal

if TYPE_CHECKING:
    from agent.ablation import Ablation, Contrast
    from agent.statistics import Interval


def show_ablation(found: Ablation, stream: TextIO, *, as_json: bool = False) -> None:
    """Each figure with memory, without, and the difference with its 95 % interval; or all of it as JSON."""
    if as_json:
        print(json.dumps(asdict(found)), file=stream)
        return
    print(f"{'':<18}{'with memory':>22}{'without':>22}   difference (95 % interval)", file=stream)
    rates = _rate(found.success_with), _rate(found.success_without)
    print(f"{'success':<18}{rates[0]:>22}{rates[1]:>22}   {_difference(found.success, '.3f')}", file=stream)
    for name, contrast in (("steps", found.steps), ("generated tokens", found.tokens)):
        means = f"{contrast.with_memory:.1f}", f"{contrast.without:.1f}"
        print(f"{name:<18}{means[0]:>22}{means[1]:>22}   {_difference(contrast, '.1f')}", file=stream)
    print(
        f"{found.pairs} pairs of {found.goals} goals; {found.won} goals won with memory, {found.lost} lost, "
        f"exact McNemar p = {found.p:.3g}",
        file=stream,
    )
    if found.left_out:
        names = for_terminal(", ".join(found.left_out[:5])) + (", ..." if len(found.left_out) > 5 else "")
        print(
            f"{len(found.left_out)} pairs left out, for one of the two has no ending of its own: {names}", file=stream
        )


def _rate(rate: Interval) -> str:
    return f"{rate.mean:.3f} ({rate.low:.3f}-{rate.high:.3f})"


def _difference(contrast: Contrast, form: str) -> str:
    mean, low, high = (
        format(value, f"+{form}")
        for value in (contrast.difference.mean, contrast.difference.low, contrast.difference.high)
    )
    return f"{mean} ({low} to {high})"
