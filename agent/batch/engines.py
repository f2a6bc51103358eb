"""Where the goals of a batch run: here, in threads that share one model, or on the machines of a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from agent.batch.folder import BatchFolder
from agent.batch.goals import GoalRunner, MemoryMode, Shared
from agent.batch.models import SharedModels
from agent.batch.results import Result
from agent.batch.stopping import Stopping
from agent.goalfile import GoalRow
from agent.settings import Settings
from agent.types import JSON, Event, Policy, WhetstoneError


@dataclass(frozen=True)
class Job:
    """What all goals of a batch have in common. See `agent.batch.run_rows`."""

    settings: Settings
    in_flight: int
    policy: Callable[[str, GoalRow], Policy] | None
    models: SharedModels | None
    memory: MemoryMode
    stopping: Stopping
    on_event: Callable[[GoalRow, Event], None] | None


class Engine(Protocol):
    """What runs goals."""

    def identity(self, rows: Sequence[GoalRow]) -> Mapping[str, JSON]:
        """Digests that say which models the goals run on."""
        ...

    def results(self, folder: BatchFolder, rows: Sequence[GoalRow]) -> Generator[Result]:
        """Run `rows` and give their results as they end; a goal that was interrupted has none."""
        ...


def models_of(rows: Sequence[GoalRow]) -> list[str]:
    """The models that rows name."""
    return sorted({row.model for row in rows if row.model is not None})


OpenEngine = Callable[[Job], contextlib.AbstractContextManager[Engine]]


def engine_named(name: str) -> OpenEngine:
    """The engine of `--engine`: `local`, `ray`, `ray://HEAD` or `ray://HEAD:PORT`. Raises WhetstoneError for others."""
    if name == "local":
        return local_engine
    if name == "ray" or name.startswith("ray://"):
        from agent.batch.ray_engine import ray_engine

        return ray_engine(name.removeprefix("ray").removeprefix("://"))
    raise WhetstoneError(f"there is no engine {name!r}: give local, ray or ray://HEAD")


@contextlib.contextmanager
def local_engine(job: Job) -> Generator[Engine]:
    """Threads of this process, one for each goal in flight."""
    with Shared.opened(job.settings, job.in_flight, job.models) as shared:
        yield _Threads(job, shared)


@dataclass(frozen=True)
class _Threads:
    job: Job
    shared: Shared

    def identity(self, rows: Sequence[GoalRow]) -> Mapping[str, JSON]:
        job = self.job
        return {} if job.policy is not None else self.shared.models.identity(job.settings, models_of(rows))

    def results(self, folder: BatchFolder, rows: Sequence[GoalRow]) -> Generator[Result]:
        job = self.job
        runner = GoalRunner(
            job.settings, folder.layout, self.shared, job.policy, job.memory, job.stopping, job.on_event
        )

        def run(row: GoalRow) -> Result | None:
            return None if job.stopping.draining else runner.run(row, folder.digests[row.id], folder.begin(row))

        with ThreadPoolExecutor(job.in_flight, thread_name_prefix="goal") as threads:
            try:
                for future in as_completed([threads.submit(run, row) for row in rows]):
                    if (result := future.result()) is not None:
                        yield result
            except BaseException:
                job.stopping.stop()
                raise
