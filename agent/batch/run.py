"""Runs the goals of a batch, several at a time, and goes on where an earlier run of the same batch stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import agent
from agent.batch.engines import Job, OpenEngine, local_engine
from agent.batch.folder import BatchFolder
from agent.batch.goals import MemoryMode
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
    engine: OpenEngine = local_engine,
    fresh: bool = False,
    stopping: Stopping | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_event: Callable[[GoalRow, Event], None] | None = None,
) -> list[Result]:
    """Run `rows` in the folder `out` and return their results in the order of the rows.

    Run again with the same folder, it keeps the results that are there, goes on with sessions that were cut off, and
    runs anew what changed. Nobody is asked anything: see `approval.mode`. `policy` makes the policy of a session from
    its id and its row; by default it is the model of the settings or the row, loaded once or found among `models`.
    `engine` is where the goals run: in threads here, or elsewhere (`agent.batch.engines`). `on_result` is called in
    this thread as each goal ends, kept results included; `on_event` in the session's thread. A goal that is interrupted
    has no result. Raises WhetstoneError where nothing can be run: see `BatchFolder`, or the model cannot be loaded.
    """
    if in_flight < 1:
        raise WhetstoneError(f"{in_flight} goals at a time is none: give at least 1")
    job = Job(settings, in_flight, policy, models, memory, stopping or Stopping(), on_event)
    with engine(job) as running:
        same = {**settings.flat(), "memory": memory, **running.identity(rows)}
        with BatchFolder(out, rows, {"version": agent.__version__, "settings": same}, fresh=fresh) as folder:
            found = {row.id: folder.kept[row.id] for row in rows if row.id in folder.kept}
            for result in found.values():
                _tell(on_result, result)
            for result in running.results(folder, [row for row in rows if row.id not in found]):
                folder.note_result(result)
                found[result.id] = result
                _tell(on_result, result)
    return [found[row.id] for row in rows if row.id in found]


def _tell(listener: Callable[[Result], None] | None, result: Result) -> None:
    if listener is not None:
        listener(result)
