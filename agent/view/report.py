"""What the report of a batch says, as plain data; the template (`templates/batch.html.j2`) only lays it out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.batch.results import Result
from agent.batch.summary import Group, Summary
from agent.view.html import laid_out
from agent.view.progress import seconds

SHOWN_FAILURES = 200
SLOWEST = 10
BINS = 24
_WIDTH, _HEIGHT, _GAP = 1000.0, 100.0, 0.12
_GOAL_CHARS, _WHY_CHARS = 160, 300


@dataclass(frozen=True)
class GroupRow:
    """A group as text, and its interval in percent for the plot."""

    name: str
    goals: str
    rate: str
    interval: str
    low: float
    width: float
    at: float
    steps: str
    tokens: str
    seconds: str


@dataclass(frozen=True)
class GoalLine:
    """One goal; `link` is empty where its session has no page."""

    id: str
    link: str
    ending: str
    steps: str
    seconds: str
    goal: str
    why: str


@dataclass(frozen=True)
class Bar:
    """A bar in the units of the drawing, with what it says."""

    label: str
    tone: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Report:
    """The whole page."""

    name: str
    headline: str
    made: str
    version: str
    ended: int
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    times: tuple[Bar, ...]
    longest: str
    endings: tuple[Bar, ...]
    families: tuple[GroupRow, ...]
    """The last row is all of them."""
    tags: tuple[GroupRow, ...]
    failures: tuple[GoalLine, ...]
    more_failures: int
    slowest: tuple[GoalLine, ...]
    bad: tuple[str, ...]


def slowest(results: Sequence[Result]) -> list[Result]:
    """The few that took longest, the slowest first; those that took equally long by their ids."""
    return sorted(results, key=lambda result: (-result.seconds, result.id))[:SLOWEST]


def report_page(
    summary: Summary, results: Sequence[Result], *, goal: Callable[[str], str], link: Callable[[Result], str]
) -> str:
    """The report as one HTML page. `goal` gives the text of a goal by its id, `link` the page of its session, or ""."""

    def line(result: Result) -> GoalLine:
        return GoalLine(
            id=result.id,
            link=link(result),
            ending=result.ending.replace("_", " "),
            steps=str(result.steps),
            seconds=seconds(result.seconds),
            goal=_short(goal(result.id), _GOAL_CHARS),
            why="" if result.succeeded else _short(result.reason, _WHY_CHARS),
        )

    failed = [result for result in results if not result.succeeded]
    succeeded = len(results) - len(failed)
    families = summary.families if len(summary.families) > 1 else ()  # one alone is the total once more
    report = Report(
        name=summary.name,
        headline=f"{succeeded} of {summary.goals} goals succeeded",
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(summary.made)),
        version=summary.version,
        ended=len(results),
        notes=(f"{summary.unfinished} goals have no result yet: the same command goes on",) * bool(summary.unfinished),
        facts=tuple(_facts(summary, results)),
        times=tuple(_times(results)),
        longest=seconds(max((result.seconds for result in results), default=0.0)),
        endings=tuple(_endings(summary.total)) if summary.total else (),
        families=tuple(_group(each) for each in (*families, summary.total) if each),
        tags=tuple(map(_group, summary.tags)),
        failures=tuple(map(line, failed[:SHOWN_FAILURES])),
        more_failures=max(0, len(failed) - SHOWN_FAILURES),
        slowest=tuple(map(line, slowest(results))),
        bad=summary.bad,
    )
    return laid_out("batch", report, styles=["batch"])


def _facts(summary: Summary, results: Sequence[Result]) -> list[tuple[str, str]]:
    facts = [
        ("model", " ".join(str(summary.model[key]) for key in ("name", "dtype", "device") if summary.model.get(key))),
        ("adapter", str(summary.model.get("adapter") or "none")),
        ("at a time", str(summary.in_flight)),
        ("generated", f"{sum(result.tokens for result in results):,} tokens"),
        ("time of all goals", seconds(sum(result.seconds for result in results))),
    ]
    if summary.run_goals and summary.run_seconds > 0:
        facts.append(("last run", f"{summary.run_goals} goals in {seconds(summary.run_seconds)}"))
        facts.append(("goals per minute", f"{60 * summary.run_goals / summary.run_seconds:.1f}"))
    return [(name, value) for name, value in facts if value]


def _group(group: Group) -> GroupRow:
    return GroupRow(
        name=group.name,
        goals=f"{group.succeeded}/{group.goals}",
        rate=f"{100 * group.rate:.1f} %",
        interval=f"{100 * group.low:.0f}-{100 * group.high:.0f} %",
        low=round(100 * group.low, 2),
        width=round(100 * (group.high - group.low), 2),
        at=round(min(99.0, max(0.0, 100 * group.rate - 0.5)), 2),
        steps=f"{group.steps:.1f}",
        tokens=f"{group.tokens:.0f}",
        seconds=seconds(group.seconds),
    )


def _times(results: Sequence[Result]) -> list[Bar]:
    """How many goals took how long."""
    longest = max((result.seconds for result in results), default=0.0)
    if not longest:
        return []
    counts = [0] * BINS
    for result in results:
        counts[min(BINS - 1, int(BINS * result.seconds / longest))] += 1
    slot = _WIDTH / BINS
    bars: list[Bar] = []
    for number, count in enumerate(counts):
        height = round(_HEIGHT * count / max(counts), 2)
        span = f"{seconds(longest * number / BINS)} to {seconds(longest * (number + 1) / BINS)}: {count} goals"
        x, width = round((number + _GAP / 2) * slot, 2), round(slot * (1 - _GAP), 2)
        bars.append(Bar(span, 1, x, round(_HEIGHT - height, 2), width, height))
    return bars


def _endings(total: Group) -> list[Bar]:
    bars: list[Bar] = []
    x = 0.0
    for number, (name, count) in enumerate(total.endings.items()):
        width = _WIDTH * count / total.goals
        bars.append(Bar(f"{name.replace('_', ' ')} {count}", (3 - number) % 4, round(x, 2), 30, round(width, 2), 70))
        x += width
    return bars


def _short(text: str, chars: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
