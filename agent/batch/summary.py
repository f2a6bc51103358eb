"""Results in numbers: how many goals succeeded, with how much doubt, how they ended and what they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from agent.batch.results import Result
from agent.statistics import wilson_interval
from agent.types import JSON

ALL = "all"


@dataclass(frozen=True)
class Group:
    """Results that belong together. `low` and `high` bound the success rate (Wilson, 95 %); all rates are 0 to 1.

    `steps` and `tokens` (generated) are means over the goals, `seconds` is the median, `valid` the share of valid
    actions of all actions, None where no action was taken.
    """

    name: str
    goals: int
    succeeded: int
    rate: float
    low: float
    high: float
    valid: float | None
    steps: float
    tokens: float
    seconds: float
    endings: Mapping[str, int]

    def as_data(self) -> dict[str, JSON]:
        return asdict(self)


def group(name: str, results: Sequence[Result]) -> Group:
    """The numbers of at least one result."""
    succeeded = sum(result.succeeded for result in results)
    interval = wilson_interval(succeeded, len(results))
    actions = sum(result.valid + result.invalid for result in results)
    return Group(
        name=name,
        goals=len(results),
        succeeded=succeeded,
        rate=interval.mean,
        low=interval.low,
        high=interval.high,
        valid=sum(result.valid for result in results) / actions if actions else None,
        steps=fmean(result.steps for result in results),
        tokens=fmean(result.tokens for result in results),
        seconds=median(result.seconds for result in results),
        endings=dict(Counter(result.ending for result in results).most_common()),
    )


def by_family(results: Iterable[Result]) -> list[Group]:
    """One group for each family, by name; goals without a family make one of no name."""
    return _grouped(results, lambda result: [result.family])


def by_tag(results: Iterable[Result]) -> list[Group]:
    """One group for each tag, by name; a goal with several tags is in several."""
    return _grouped(results, lambda result: result.tags)


def _grouped(results: Iterable[Result], names: Callable[[Result], Iterable[str]]) -> list[Group]:
    found: dict[str, list[Result]] = {}
    for result in results:
        for name in names(result):
            found.setdefault(name, []).append(result)
    return [group(name, found[name]) for name in sorted(found)]


@dataclass(frozen=True)
class Summary:
    """A whole batch in numbers: what `summary.json` holds. `made` is Unix time.

    `bad` are rows that could not be used, one sentence each; `unfinished` goals have no result. `run_goals` ended in
    the last run, which took `run_seconds`.
    """

    name: str
    goals: int
    unfinished: int
    bad: tuple[str, ...]
    total: Group | None
    families: tuple[Group, ...]
    tags: tuple[Group, ...]
    model: Mapping[str, JSON]
    in_flight: int
    run_goals: int
    run_seconds: float
    made: float
    version: str

    def as_data(self) -> dict[str, JSON]:
        return asdict(self) | {"bad": list(self.bad)}
