"""Sampling: every goal K times, what came of it, and whether there is anything to learn from it."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from agent.batch import Result, run_rows
from agent.batch.models import SharedModels
from agent.goalfile import GoalRow
from agent.policies.local import Bases
from agent.settings import Settings

SAMPLE = "~"
"""Between the id of a goal and the number of its sample."""
LEAST_SOMETIMES = 3
"""Fewer goals that succeed sometimes are no head-room."""
LEAST_GAIN = 0.02
"""Of pass@k over pass@1."""


@dataclass(frozen=True)
class Rollouts:
    """K sessions of each goal. `good` says which are to be learned from: those whose check passed, unless shuffled."""

    folder: Path
    samples: int
    results: tuple[Result, ...]
    good: Mapping[str, bool]
    """By session id."""

    @property
    def pass_at_1(self) -> float:
        """Share of the sessions that succeeded."""
        return fmean(r.succeeded for r in self.results) if self.results else 0.0

    @property
    def pass_at_k(self) -> float:
        """Share of the goals that succeeded at least once."""
        rates = self.rates()
        return fmean(rate > 0 for rate in rates.values()) if rates else 0.0

    def rates(self) -> dict[str, float]:
        """Goal -> share of its sessions that succeeded."""
        found: dict[str, list[bool]] = {}
        for result in self.results:
            found.setdefault(goal_of(result), []).append(result.succeeded)
        return {goal: fmean(successes) for goal, successes in found.items()}

    def journals(self) -> list[Path]:
        """The journals of all sessions, in the order of the results."""
        return [self.folder / result.journal for result in self.results if result.journal]

    def chosen(self) -> list[Path]:
        """The journals to learn from. Of a goal that always succeeds one is enough; the others keep all of theirs."""
        by_goal: dict[str, list[Result]] = {}
        for result in self.results:
            by_goal.setdefault(goal_of(result), []).append(result)
        found: list[Path] = []
        for several in by_goal.values():
            good = [each for each in several if self.good.get(each.session)]
            kept = good[:1] if len(good) == len(several) else good
            found += [self.folder / each.journal for each in kept]
        return found


def sample(
    settings: Settings,
    rows: Sequence[GoalRow],
    out: Path,
    *,
    samples: int,
    temperature: float,
    in_flight: int = 8,
    shuffle: int | None = None,
    bases: Bases | None = None,
) -> Rollouts:
    """Run each row `samples` times at `temperature`. Run again with the same folder, it goes on where it stopped.

    `shuffle` (a seed) deals the verdicts out anew at random among all sessions: what learning from them is worth is
    then chance. `bases` may have the model's open already. Raises WhetstoneError as `agent.batch.run_rows` does.
    """
    sampling = settings.sampling.model_copy(update={"temperature": temperature})
    approval = settings.approval.model_copy(update={"mode": "auto"})
    settings = settings.model_copy(update={"sampling": sampling, "approval": approval})
    many = [replace(row, id=f"{row.id}{SAMPLE}{number}") for row in rows for number in range(samples)]
    with contextlib.closing(SharedModels(in_flight, bases)) as models:
        results = run_rows(settings, many, out=out, in_flight=in_flight, models=models)
    results = [result for result in results if result.session]
    verdicts = [result.succeeded and result.passed is True for result in results]
    if shuffle is not None:
        random.Random(f"shuffle {shuffle}").shuffle(verdicts)
    good = {result.session: verdict for result, verdict in zip(results, verdicts, strict=True)}
    return Rollouts(out, samples, tuple(results), good)


def goal_of(result: Result) -> str:
    """The id of the goal that a result is a sample of."""
    return result.id.rpartition(SAMPLE)[0]


def no_head_room(rollouts: Rollouts) -> str | None:
    """Why training on these would not help, in one sentence; None if there is something to learn.

    More of what a model does anyway makes it no better, and can make it worse. What helps are goals that succeed
    sometimes: there the successes say what the failures lacked.
    """
    rates = rollouts.rates()
    sometimes = sum(0 < rate < 1 for rate in rates.values())
    one, many, k = rollouts.pass_at_1, rollouts.pass_at_k, rollouts.samples
    figures = (
        f"pass@1 {100 * one:.1f} %, pass@{k} {100 * many:.1f} %, {sometimes} of {len(rates)} goals solved sometimes"
    )
    if many == 0:
        return f"no goal was solved once, so there is nothing to learn from ({figures}): give easier goals or a teacher"
    if sometimes < LEAST_SOMETIMES or many - one < LEAST_GAIN:
        return f"there is no head-room ({figures}): training on more of the same would not help; give harder goals"
    return None


def distinct_actions(rollouts: Rollouts) -> float:
    """Share of different action sequences (tools and arguments) among the sessions to learn from."""
    from agent.journal import read_session

    seen: list[str] = []
    for path in rollouts.chosen():
        actions = [e.data for e in read_session(path).events if e.kind == "action"]
        seen.append(json.dumps([[a["tool"], a["args"]] for a in actions], sort_keys=True))
    return len(set(seen)) / len(seen) if seen else 0.0
