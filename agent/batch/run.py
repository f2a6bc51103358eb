"""Runs the goals of a batch, several at a time, and goes on where an earlier run of the same batch stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import agent
from agent.batch.folder import BatchFolder
from agent.batch.goals import GoalRunner, MemoryMode, Shared
from agent.batch.models import SharedModels
from agent.batch.results import Result
from agent.batch.stopping import Stopping
from agent.goalfile import GoalRow
from agent.settings import Settings
from agent.types import Event, Policy, WhetstoneError


def run_rows(
    settings: Settings,
    rows: Sequence[GoalRow],
    *,
    out: Path,
    in_flight: int = 1,
    policy: Callable[[str, GoalRow], Policy] | None = None,
    models: SharedModels | None = None,
    memory: MemoryMode = "none",
    fresh: bool = False,
    stopping: Stopping | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_event: Callable[[GoalRow, Event], None] | None = None,
) -> list[Result]:
    """Run `rows` in the folder `out` and return their results in the order of the rows.

    Run again with the same folder, it keeps the results that are there, goes on with sessions that were cut off, and
    runs anew what changed. Nobody is asked anything: see `approval.mode`. `policy` makes the policy of a session from
    its id and its row; by default it is the model of the settings or the row, loaded once or found among `models`.
    `on_result` is called in this thread as each goal ends, kept results included; `on_event` in the session's thread.
    A goal that is interrupted has no result. Raises WhetstoneError where nothing can be run: see `BatchFolder`, or the
    model cannot be loaded.
    """
    if in_flight < 1:
        raise WhetstoneError(f"{in_flight} goals at a time is none: give at least 1")
    stopping = stopping or Stopping()
    with Shared.opened(settings, in_flight, models) as shared:
        same = settings.flat() | {"memory": memory} | (shared.models.identity(settings) if policy is None else {})
        with BatchFolder(out, rows, {"version": agent.__version__, "settings": same}, fresh=fresh) as folder:
            found = {row.id: folder.kept[row.id] for row in rows if row.id in folder.kept}
            for result in found.values():
                _tell(on_result, result)
            left = [row for row in rows if row.id not in found]
            runner = GoalRunner(settings, folder.layout, shared, policy, memory, stopping, on_event)
            for result in _in_threads(runner, folder, left, in_flight):
                folder.note_result(result)
                found[result.id] = result
                _tell(on_result, result)
    return [found[row.id] for row in rows if row.id in found]


def _in_threads(runner: GoalRunner, folder: BatchFolder, rows: Sequence[GoalRow], in_flight: int) -> Generator[Result]:
    """The results of `rows`, run in `in_flight` threads, as they come."""

    def run(row: GoalRow) -> Result | None:
        return None if runner.stopping.draining else runner.run(row, folder.digests[row.id], folder.begin(row))

    with ThreadPoolExecutor(in_flight, thread_name_prefix="goal") as threads:
        try:
            for future in as_completed([threads.submit(run, row) for row in rows]):
                if (result := future.result()) is not None:
                    yield result
        except BaseException:
            runner.stopping.stop()
            raise


def _tell(listener: Callable[[Result], None] | None, result: Result) -> None:
    if listener is not None:
        listener(result)
