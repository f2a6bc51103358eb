"""How well a model does on a suite of goals, and which of two does better.

A suite is a file of goals with checks (`agent.goalfile`). An evaluation is a batch whose results are kept together with
what was run: the suite's digest, the model, the settings. Two evaluations of one suite are compared goal by goal.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import agent
from agent.batch import Result, Stopping, run_rows
from agent.batch.engines import OpenEngine, local_engine
from agent.batch.folder import row_digest, write_whole
from agent.batch.models import SharedModels
from agent.batch.report import described
from agent.batch.summary import ALL, Group, by_family, by_tag, group
from agent.goalfile import FAMILY, GoalRow
from agent.settings import Settings
from agent.statistics import Interval, exact_mcnemar, paired_bootstrap
from agent.types import JSON, Event, Policy, WhetstoneError

SCHEMA = 1


@dataclass(frozen=True)
class EvalResult:
    """A suite's results. `goals` is the suite's size, `model` what the policy said of itself, `made` a Unix time."""

    suite: str
    digest: str
    """sha256 over all rows of the suite."""
    goals: int
    results: tuple[Result, ...]
    model: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    settings: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    in_flight: int = 1
    version: str = agent.__version__
    made: float = 0.0

    @property
    def complete(self) -> bool:
        """Every goal of the suite has a result."""
        return len(self.results) == self.goals

    @property
    def total(self) -> Group:
        return group(ALL, self.results)

    def families(self) -> list[Group]:
        return by_family(self.results)

    def tags(self) -> list[Group]:
        """Groups of the tags that are no families, as `chain` or `unseen`."""
        return [found for found in by_tag(self.results) if not found.name.startswith(FAMILY)]


def evaluate(
    settings: Settings,
    rows: Sequence[GoalRow],
    *,
    suite: str,
    out: Path,
    in_flight: int = 1,
    policy: Callable[[str, GoalRow], Policy] | None = None,
    models: SharedModels | None = None,
    engine: OpenEngine = local_engine,
    fresh: bool = False,
    stopping: Stopping | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_event: Callable[[GoalRow, Event], None] | None = None,
) -> EvalResult:
    """Run a suite in the folder `out` and save what came of it as `out/eval.json`; see `agent.batch.run_rows`.

    Nothing is remembered between goals. Stopped and run again it goes on. Raises WhetstoneError as `run_rows` does.
    """
    results = run_rows(
        settings,
        rows,
        out=out,
        in_flight=in_flight,
        policy=policy,
        models=models,
        engine=engine,
        fresh=fresh,
        stopping=stopping,
        on_result=on_result,
        on_event=on_event,
    )
    done = EvalResult(
        suite=suite,
        digest=suite_digest(rows),
        goals=len(rows),
        results=tuple(results),
        model=described(results, out),
        settings={key: value for key, value in settings.flat().items() if not key.startswith("paths.")},
        in_flight=in_flight,
        made=time.time(),
    )
    save_results(out / "eval.json", done)
    return done


def suite_digest(rows: Sequence[GoalRow]) -> str:
    """sha256 hex over all that the rows say."""
    return hashlib.sha256("".join(row_digest(row) for row in rows).encode()).hexdigest()


def save_results(path: Path, result: EvalResult) -> None:
    """Write the evaluation as JSON, its groups beside it for whoever reads the file. Raises WhetstoneError."""
    data = asdict(result) | {"schema": SCHEMA, "results": [each.as_data() for each in result.results]}
    if result.results:
        data |= {
            "total": result.total.as_data(),
            "families": [each.as_data() for each in result.families()],
            "tags": [each.as_data() for each in result.tags()],
        }
    try:
        write_whole(path, json.dumps(data, indent=1) + "\n")
    except OSError as error:
        raise WhetstoneError(f"the results cannot be written to {path}: {error.strerror}") from error


def load_results(path: Path) -> EvalResult:
    """An evaluation from its file, or from the folder it was made in. Raises WhetstoneError."""
    path = path / "eval.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] > SCHEMA:
            raise WhetstoneError(f"{path} was written by a newer version: upgrade whetstone-agent")
        results = tuple(Result.from_data(each) for each in data["results"])
        names = ("suite", "digest", "goals", "model", "settings", "in_flight", "version", "made")
        return EvalResult(results=results, **{name: data[name] for name in names})
    except OSError as error:
        raise WhetstoneError(f"the evaluation {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WhetstoneError(f"{path} is no evaluation: give a file that `eval` saved") from error


@dataclass(frozen=True)
class Paired:
    """One group of goals under two models. Rates are 0 to 1; `gain` is second minus first, with its 95 % interval.

    `won` goals succeed only with the second model, `lost` only with the first; `p` is McNemar's exact p-value.
    """

    name: str
    goals: int
    first: float
    second: float
    gain: Interval
    won: int
    lost: int
    p: float
    steps: float
    """Mean difference of steps, second minus first, over the goals that both achieve; 0 without any."""
    tokens: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, paired by goal. `unpaired` goals are in one only, or are not the same goal in both."""

    total: Paired
    families: tuple[Paired, ...]
    unpaired: int


def compare(first: EvalResult, second: EvalResult) -> Comparison:
    """Pair two evaluations goal by goal. Raises WhetstoneError when they have no goal in common."""
    before = {(result.id, result.row): result for result in first.results}
    pairs = [(before[r.id, r.row], r) for r in second.results if (r.id, r.row) in before]
    if not pairs:
        raise WhetstoneError("the two evaluations have no goal in common: compare results of one suite")
    names = sorted({b.family for _, b in pairs})
    families = [_paired(name, [pair for pair in pairs if pair[1].family == name]) for name in names]
    return Comparison(_paired(ALL, pairs), tuple(families), len(first.results) + len(second.results) - 2 * len(pairs))


def _paired(name: str, pairs: Sequence[tuple[Result, Result]]) -> Paired:
    gains = [float(b.succeeded) - float(a.succeeded) for a, b in pairs]
    won, lost = gains.count(1.0), gains.count(-1.0)
    both = [(a, b) for a, b in pairs if a.succeeded and b.succeeded]
    return Paired(
        name=name,
        goals=len(pairs),
        first=sum(a.succeeded for a, _ in pairs) / len(pairs),
        second=sum(b.succeeded for _, b in pairs) / len(pairs),
        gain=paired_bootstrap(gains),
        won=won,
        lost=lost,
        p=exact_mcnemar(won, lost),
        steps=sum(b.steps - a.steps for a, b in both) / len(both) if both else 0.0,
        tokens=sum(b.tokens - a.tokens for a, b in both) / len(both) if both else 0.0,
    )
