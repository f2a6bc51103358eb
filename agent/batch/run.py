"""Runs the goals of a batch, several at a time, and goes on where an earlier run of the same batch stopped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import agent
from agent.batch.folder import BatchFolder, place_name
from agent.batch.models import SharedModels
from agent.batch.results import Result
from agent.batch.sharing import SharedMemory, SharedSandbox
from agent.batch.stopping import Stopping
from agent.goalfile import GoalRow
from agent.journal import JournalError, Session, new_session_id, read_session
from agent.parts import Supplied
from agent.runtime import resume_session, run_goal
from agent.settings import Settings
from agent.types import Ending, Event, Memory, Policy, WhetstoneError

MemoryMode = Literal["none", "shared-read", "own"]
"""`none`: no memory; `shared-read`: the user's, not changed; `own`: an empty one for each goal. A row that says what is
remembered always has its own."""
UNFINISHED = (Ending.INTERRUPTED, Ending.ERROR)
"""Endings after which the same command goes on: neither is the agent's doing."""


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
    with contextlib.ExitStack() as stack:
        if models is None:
            models = stack.enter_context(contextlib.closing(SharedModels(in_flight)))
        user_memory = stack.enter_context(contextlib.closing(SharedMemory(settings)))
        shared = _Shared(models, SharedSandbox(settings), user_memory)
        same = settings.flat() | {"memory": memory} | (models.identity(settings) if policy is None else {})
        record = {"version": agent.__version__, "settings": same}
        folder = stack.enter_context(BatchFolder(out, rows, record, fresh=fresh))
        found = {row.id: folder.kept[row.id] for row in rows if row.id in folder.kept}
        for result in found.values():
            _tell(on_result, result)
        left = [row for row in rows if row.id not in found]
        goal = _Goals(settings, folder, shared, policy, memory, stopping, on_event)
        with ThreadPoolExecutor(in_flight, thread_name_prefix="goal") as threads:
            try:
                for future in as_completed([threads.submit(goal.run, row) for row in left]):
                    if (result := future.result()) is not None:
                        folder.note_result(result)
                        found[result.id] = result
                        _tell(on_result, result)
            except BaseException:
                stopping.stop()
                raise
    return [found[row.id] for row in rows if row.id in found]


def _tell(listener: Callable[[Result], None] | None, result: Result) -> None:
    if listener is not None:
        listener(result)


@dataclass(frozen=True)
class _Shared:
    models: SharedModels
    sandbox: SharedSandbox
    memory: SharedMemory


@dataclass(frozen=True)
class _Goals:
    """Runs one row at a time in whatever thread asks."""

    settings: Settings
    folder: BatchFolder
    shared: _Shared
    policy: Callable[[str, GoalRow], Policy] | None
    memory: MemoryMode
    stopping: Stopping
    on_event: Callable[[GoalRow, Event], None] | None

    def run(self, row: GoalRow) -> Result | None:
        """Run `row`, or what is left of it; None where it was interrupted before it ended."""
        if self.stopping.draining:
            return None
        try:
            session = self._session(row)
        except Exception as error:  # also a defect: one goal must not take the others with it
            begun = self.folder.last_session(row)
            session = None if begun is None else _readable(self.folder.journal(begun))
            if session is not None and session.events[-1].kind == "end":  # it says itself what went wrong
                return Result.of_session(row, self.folder.digests[row.id], session, self.folder.out)
            named = str(error) if isinstance(error, WhetstoneError) else f"{type(error).__name__}: {error}"
            return Result(
                row.id, Ending.ERROR, reason=named, family=row.family, tags=row.goal.tags,
                row=self.folder.digests[row.id],
            )  # fmt: skip
        if session.events[-1].kind != "end" or session.events[-1].data["ending"] == Ending.INTERRUPTED:
            return None
        return Result.of_session(row, self.folder.digests[row.id], session, self.folder.out)

    def _session(self, row: GoalRow) -> Session:
        begun = self.folder.last_session(row)
        if begun is not None and (session := _readable(self.folder.journal(begun))) is not None:
            last = session.events[-1]
            if last.kind == "end" and last.data["ending"] not in UNFINISHED:
                return session
            return self._drive(row, begun, resume=True)
        begun = new_session_id()
        self._prepare(row)
        self.folder.note_start(row, begun)
        return self._drive(row, begun, resume=False)

    def _drive(self, row: GoalRow, id: str, *, resume: bool) -> Session:
        settings, path = self._settings_of(row), self.folder.journal(id)
        view = _Watched(row, self.on_event)
        supplied = Supplied(
            memory=lambda: self._memory_of(row),
            sandbox=self.shared.sandbox.open,
            interrupted=lambda: self.stopping.stopped,
        )

        def policy(session: str) -> Policy:
            if self.policy is not None:
                return self.policy(session, row)
            return self.shared.models.open(settings, session, row.id)

        if resume:
            resume_session(settings, path, force=False, view=view, asker=None, policy=policy, supplied=supplied)
        else:
            run_goal(settings, row.goal, view=view, asker=None, policy=policy, session=id, supplied=supplied)
        return read_session(path)

    def _settings_of(self, row: GoalRow) -> Settings:
        now = self.settings
        changed: dict[str, Any] = {
            "paths": now.paths.model_copy(update={"workspace": self.folder.workspace(row), "data": self.folder.data}),
            "budget": now.budget.model_copy(update=asdict(row.goal.budget)),
            "memory": now.memory.model_copy(update={"enabled": self.memory != "none" or bool(row.remembered)}),
        }
        if row.model is not None:
            changed["model"] = now.model.model_copy(update={"name": row.model})
        if row.seed is not None:
            changed["sampling"] = now.sampling.model_copy(update={"seed": row.seed})
        return now.model_copy(update=changed)

    def _memory_of(self, row: GoalRow) -> Memory | None:
        if row.remembered or self.memory == "own":
            return self.shared.memory.own(self._memory_folder(row), row.remembered)
        return self.shared.memory.read_only() if self.memory == "shared-read" else None

    def _memory_folder(self, row: GoalRow) -> Path:
        return self.folder.data / "memory" / place_name(row.id)

    def _prepare(self, row: GoalRow) -> None:
        """The workspace as the row wants it; what an earlier version of the row left there goes."""
        workspace = self.folder.workspace(row)
        shutil.rmtree(self._memory_folder(row), ignore_errors=True)
        try:
            if workspace.exists():
                shutil.rmtree(workspace)
            if row.workspace is None:
                workspace.mkdir(parents=True)
            elif not row.workspace.is_dir():
                raise WhetstoneError(
                    f"the workspace {row.workspace} of goal {row.id} is not a folder: name one that is"
                )
            elif self.folder.out.resolve().is_relative_to(row.workspace.resolve()):
                raise WhetstoneError(
                    f"{self.folder.out} lies in the workspace {row.workspace}: name a folder outside it"
                )
            else:
                shutil.copytree(row.workspace, workspace, symlinks=True)
            for name, text in row.files.items():
                path = _inside(workspace, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
        except OSError as error:  # copytree's own error is a list of them
            reason = error.strerror or str(error)
            raise WhetstoneError(f"the workspace of goal {row.id} cannot be made ({workspace}): {reason}") from error


def _readable(path: Path) -> Session | None:
    """The session in `path`; None where the process died before its first event was whole: nothing had run then."""
    if not path.exists():
        return None
    try:
        return read_session(path)
    except JournalError:
        if b"\n" in path.read_bytes():
            raise
        path.unlink()
        return None


def _inside(folder: Path, name: str) -> Path:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise WhetstoneError(f"the file {name!r} lies outside the workspace: give a path like notes/a.txt")
    path = folder.joinpath(*parts)
    if not path.parent.resolve().is_relative_to(folder.resolve()) or path.is_symlink():
        raise WhetstoneError(f"the file {name!r} would be written through a link: give another name")
    return path


@dataclass(frozen=True)
class _Watched:
    """A session's view: hands its events on."""

    row: GoalRow
    listener: Callable[[GoalRow, Event], None] | None

    def event(self, event: Event) -> None:
        if self.listener is not None:
            self.listener(self.row, event)

    def text(self, piece: str) -> None:
        return

    def close(self) -> None:
        return
