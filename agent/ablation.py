"""What memory is worth: the same goals with and without it, the same seeds, compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.batch import Result, Stopping, run_rows
from agent.goalfile import GoalRow
from agent.settings import Settings
from agent.statistics import Interval, exact_mcnemar, paired_bootstrap, wilson_interval
from agent.types import Ending, Policy, WhetstoneError

_SEED = "#seed"


class NothingToCompare(WhetstoneError):
    """No goal has an ending of its own both ways."""


@dataclass(frozen=True)
class Contrast:
    """One figure with and without memory: both means, and the mean difference of a goal with its interval."""

    with_memory: float
    without: float
    difference: Interval
    """With memory minus without; 95 % paired bootstrap over goals, the seeds of a goal averaged first."""


@dataclass(frozen=True)
class Ablation:
    """Goals run with and without memory.

    A pair is one goal with one seed, run both ways. `won` goals succeed more often with memory than without, `lost`
    ones less often; `p` is the two-sided exact McNemar test on them: with one seed each goal is a pair, with several
    a goal still counts once, for its seeds are not independent.
    """

    goals: int
    pairs: int
    left_out: tuple[str, ...]
    """Pairs that cannot be compared: one of the two ended in an error, or was interrupted."""
    success_with: Interval
    """Wilson interval of the success rate, 95 %."""
    success_without: Interval
    success: Contrast
    steps: Contrast
    tokens: Contrast
    """Generated tokens."""
    won: int
    lost: int
    p: float


def ablate(
    settings: Settings,
    rows: Sequence[GoalRow],
    out: Path,
    *,
    seeds: int = 1,
    in_flight: int = 1,
    policy: Callable[[str, GoalRow], Policy] | None = None,
    stopping: Stopping | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> Ablation:
    """Run `rows` with `seeds` seeds each, with memory in `out/with` and without in `out/without`, and compare.

    With memory means: a row's own `remembered` notes, or, where it has none, the user's memory, which is read and not
    changed. Without, nothing is recalled and the tools `recall` and `remember` are not offered. Run again with the same
    folder, it goes on where it stopped; the other arguments are those of `run_rows`. Raises WhetstoneError where there
    is no memory to do without or the goals cannot be run, NothingToCompare where no pair has two endings.
    """
    if seeds < 1:
        raise WhetstoneError(f"{seeds} seeds are no run: give at least 1.")
    if seeds > 1 and settings.sampling.temperature == 0:
        raise WhetstoneError("At temperature 0 every seed gives the same tokens: ask for one seed, or set sampling.")
    kept = settings.paths.data / "memory"
    if not (kept / "current").exists() and not any(row.remembered for row in rows):
        raise WhetstoneError(
            f"The memory in {kept} is empty and no goal has `remembered` notes, so both ways would be the same: run "
            "some sessions first, or say in the goals what is remembered."
        )
    seeded = list(_seeded(rows, settings.sampling.seed, seeds))
    bare = [replace(row, remembered=()) for row in seeded]
    stopping = stopping or Stopping()
    having = run_rows(
        settings, seeded, out=out / "with", in_flight=in_flight, policy=policy, memory="shared-read",
        stopping=stopping, on_result=on_result,
    )  # fmt: skip
    lacking = run_rows(
        settings, bare, out=out / "without", in_flight=in_flight, policy=policy, memory="none",
        stopping=stopping, on_result=on_result,
    )  # fmt: skip
    return compare([(row.id, goal_of(row)) for row in seeded], having, lacking)


def compare(pairs: Sequence[tuple[str, str]], having: Sequence[Result], lacking: Sequence[Result]) -> Ablation:
    """Compare results pair by pair; `pairs` are (id of the result, goal it belongs to). Raises NothingToCompare."""
    first, second = ({result.id: result for result in results} for results in (having, lacking))
    by_goal: dict[str, list[tuple[Result, Result]]] = {}
    left_out: list[str] = []
    for id, goal in pairs:
        both = first.get(id), second.get(id)
        if both[0] is None or both[1] is None or Ending.ERROR in (both[0].ending, both[1].ending):
            left_out.append(id)
        else:
            by_goal.setdefault(goal, []).append((both[0], both[1]))
    if not by_goal:
        reasons = [result.reason for result in (*having, *lacking) if result.ending == Ending.ERROR]
        raise NothingToCompare(
            f"None of the {len(pairs)} pairs can be compared: {reasons[0] if reasons else 'all were interrupted'}."
        )
    compared = [pair for group in by_goal.values() for pair in group]
    won, lost = _won_and_lost(by_goal.values())
    return Ablation(
        goals=len(by_goal),
        pairs=len(compared),
        left_out=tuple(left_out),
        success_with=wilson_interval(sum(a.succeeded for a, _ in compared), len(compared)),
        success_without=wilson_interval(sum(b.succeeded for _, b in compared), len(compared)),
        success=_contrast(list(by_goal.values()), lambda result: float(result.succeeded)),
        steps=_contrast(list(by_goal.values()), lambda result: float(result.steps)),
        tokens=_contrast(list(by_goal.values()), lambda result: float(result.tokens)),
        won=won,
        lost=lost,
        p=exact_mcnemar(won, lost),
    )


def goal_of(row: GoalRow) -> str:
    """The goal that a seeded row belongs to: its id without the seed."""
    return row.id.rpartition(_SEED)[0]


def _seeded(rows: Sequence[GoalRow], first_seed: int, seeds: int) -> Iterator[GoalRow]:
    """Each row once for each seed. Ids are the same in both arms, so random numbers are too."""
    for row in rows:
        for seed in range(seeds):
            number = (first_seed if row.seed is None else row.seed) + seed
            yield replace(row, id=f"{row.id}{_SEED}{number}", seed=number)


def _won_and_lost(groups: Iterable[Sequence[tuple[Result, Result]]]) -> tuple[int, int]:
    gains = [sum(a.succeeded - b.succeeded for a, b in group) for group in groups]
    return sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)


def _contrast(groups: Sequence[Sequence[tuple[Result, Result]]], measure: Callable[[Result], float]) -> Contrast:
    having = [sum(measure(a) for a, _ in group) / len(group) for group in groups]
    lacking = [sum(measure(b) for _, b in group) / len(group) for group in groups]
    return Contrast(
        with_memory=sum(having) / len(groups),
        without=sum(lacking) / len(groups),
        difference=paired_bootstrap([a - b for a, b in zip(having, lacking, strict=True)]),
    )
