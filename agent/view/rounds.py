"""An improvement run as a table, and as a picture of its rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from agent.learning.rounds import Improved, Round

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 560, 260, 44, 28, 34
PANEL = 96
"""Height of the row of small plots below."""
_COLUMNS: tuple[tuple[str, Callable[[Round], str]], ...] = (
    ("round", lambda r: str(r.number)),
    ("pass@1", lambda r: _percent(r.pass_at_1)),
    ("pass@k", lambda r: _percent(r.pass_at_k)),
    ("kept", lambda r: str(r.kept)),
    ("distinct", lambda r: _percent(r.distinct)),
    ("target", lambda r: f"{_percent(r.target_before)} > {_percent(r.target)}" if r.verdict else "-"),
    ("control", lambda r: _percent(r.target_control) if r.verdict else "-"),
    ("older", lambda r: f"{_percent(r.older_before)} > {_percent(r.older)}" if r.verdict else "-"),
    ("steps", lambda r: f"{r.steps:.1f}" if r.verdict else "-"),
    ("tokens", lambda r: f"{r.tokens:.0f}" if r.verdict else "-"),
    ("KL", lambda r: "-" if r.kl is None else f"{r.kl:.4f}"),
    ("minutes", lambda r: f"{r.minutes:.1f}"),
    ("gate", lambda r: r.verdict or "declined"),
)
_LINES: tuple[tuple[str, str, Callable[[Round], float]], ...] = (
    ("target", "#2563eb", lambda r: r.target),
    ("older goals", "#16a34a", lambda r: r.older),
    ("control", "#9ca3af", lambda r: r.target_control),
)
_SAMPLED: tuple[tuple[str, str, Callable[[Round], float]], ...] = (
    ("pass@k", "#d97706", lambda r: r.pass_at_k),
    ("distinct", "#7c3aed", lambda r: r.distinct),
)
"""Of what was sampled at the beginning of a round, so by the model of the round before."""
_PANELS: tuple[tuple[str, str, Callable[[Round], float]], ...] = (
    ("steps", "{:.1f}", lambda r: r.steps),
    ("tokens", "{:.0f}", lambda r: r.tokens),
    ("KL to the base", "{:.4f}", lambda r: r.kl or 0.0),
)


def table_text(improved: Improved) -> str:
    """All rounds in a table, then why there are no more, and what the gate said of the last one."""
    rows = [[name for name, _ in _COLUMNS]]
    rows += [[say(each) for _, say in _COLUMNS] for each in improved.rounds]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append(improved.stopped)
    if improved.rounds and improved.rounds[-1].reasons:
        lines += [f"  {reason}" for reason in improved.rounds[-1].reasons]
    return "\n".join(lines)


def picture(improved: Improved) -> str:
    """All that is measured of a round, by round, as an SVG document; round 0 is before the first."""
    judged = [each for each in improved.rounds if each.verdict]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + PANEL}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT + PANEL}" fill="white"/>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 110}" y1="{y}" y2="{y}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    for number in range(len(judged) + 1):
        x = _x(number, len(judged))
        parts.append(f'<text x="{x}" y="{HEIGHT - 12}" text-anchor="middle">{number}</text>')
    taken: list[float] = []
    for name, colour, value in _LINES if judged else ():
        start = judged[0].older_before if name == "older goals" else judged[0].target_before
        parts += _line(name, colour, [start, *map(value, judged)], len(judged), taken)
    for name, colour, value in _SAMPLED if judged else ():
        parts += _line(name, colour, [*map(value, judged)], len(judged), taken, dashes='stroke-dasharray="4 3" ')
    parts.append(f'<text x="{LEFT}" y="16">Success on held-out goals by round; dashed: of what was sampled</text>')
    width = (WIDTH - LEFT) / len(_PANELS)
    for number, (name, form, value) in enumerate(_PANELS if judged else ()):
        parts += _panel(name, form, [*map(value, judged)], LEFT + number * width, width - 24)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(
    name: str, colour: str, values: Sequence[float], rounds: int, taken: list[float], dashes: str = ""
) -> list[str]:
    """Shares by round, from round 0 on, with their last value beside them."""
    places = [(_x(n, rounds), _y(v)) for n, v in enumerate(values)]
    points = " ".join(f"{x},{y}" for x, y in places)
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" {dashes}stroke-width="2"/>']
    parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
    y = _free(_y(values[-1]) + 4, taken)
    label = f"{name} {values[-1]:.0%}"
    return [*parts, f'<text x="{WIDTH - 104}" y="{y}" fill="{colour}">{escape(label)}</text>']


def _panel(name: str, form: str, values: Sequence[float], left: float, width: float) -> list[str]:
    """One figure by round, from round 1 on, as bars up from zero."""
    floor, top = HEIGHT + PANEL - 22, HEIGHT + 34
    step, largest = width / len(values), max(*values, 1e-9)
    parts = [f'<text x="{left:.0f}" y="{HEIGHT + 14}">{escape(name)}</text>']
    for number, value in enumerate(values, start=1):
        x, height = left + (number - 1) * step, (floor - top) * value / largest
        middle, bar = x + 0.4 * step, f'width="{0.8 * step:.1f}" height="{height:.1f}" fill="#93c5fd"'
        parts.append(f'<rect x="{x:.1f}" y="{floor - height:.1f}" {bar}/>')
        parts.append(
            f'<text x="{middle:.1f}" y="{floor - height - 3:.1f}" text-anchor="middle">{form.format(value)}</text>'
        )
        parts.append(f'<text x="{middle:.1f}" y="{floor + 14}" text-anchor="middle">{number}</text>')
    return parts


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _x(number: int, rounds: int) -> float:
    return round(LEFT + (WIDTH - 130 - LEFT) * number / max(1, rounds) + 10, 1)


def _y(share: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)


def _free(y: float, taken: list[float]) -> float:
    """The place nearest to `y` where a label hides none that is there already."""
    while any(abs(y - other) < 14 for other in taken):
        y += 14
    taken.append(y)
    return y
