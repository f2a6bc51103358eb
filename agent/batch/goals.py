"""One goal of a batch, from its row to its result: workspace, memory, session, and going on with one that was cut."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agent.batch.folder import Layout
from agent.batch.models import SharedModels, with_model
from agent.batch.results import Result
from agent.batch.sharing import SharedMemory, SharedSandbox
from agent.batch.stopping import Stopping
from agent.goalfile import GoalRow
from agent.journal import JournalError, Session, read_session
from agent.parts import Supplied
from agent.runtime import resume_session, run_goal
from agent.settings import Settings
from agent.types import Ending, Event, Memory, Policy, WhetstoneError

MemoryMode = Literal["none", "shared-read", "own"]
"""`none`: no memory; `shared-read`: the user's, not changed; `own`: an empty one for each goal. A row that says what is
remembered always has its own."""
UNFINISHED = (Ending.INTERRUPTED, Ending.ERROR)
"""Endings after which the same command goes on: neither is the agent's doing."""


@dataclass(frozen=True)
class Shared:
    """What the goals of one process share."""

    models: SharedModels
    sandbox: SharedSandbox
    memory: SharedMemory

    @classmethod
    @contextlib.contextmanager
    def opened(cls, settings: Settings, in_flight: int, models: SharedModels | None = None) -> Generator[Shared]:
        """Opened when needed, closed at the end; `models` of somebody else stay open."""
        with contextlib.ExitStack() as stack:
            if models is None:
                models = stack.enter_context(contextlib.closing(SharedModels(in_flight)))
            memory = stack.enter_context(contextlib.closing(SharedMemory(settings)))
            yield cls(models, SharedSandbox(settings), memory)


@dataclass(frozen=True)
class GoalRunner:
    """Runs one goal at a time in whatever thread asks, in the folders of `layout`."""

    settings: Settings
    layout: Layout
    shared: Shared
    policy: Callable[[str, GoalRow], Policy] | None
    memory: MemoryMode
    stopping: Stopping
    on_event: Callable[[GoalRow, Event], None] | None = None

    def run(self, row: GoalRow, digest: str, id: str) -> Result | None:
        """Run `row` as the session `id`, or what is left of that; None where it was interrupted before it ended.

        Never raises for what one goal can do wrong: that is a result too.
        """
        try:
            session = self._session(row, id)
        except Exception as error:  # also a defect: one goal must not take the others with it
            session = self._last_told(id)
            if session is None:
                named = str(error) if isinstance(error, WhetstoneError) else f"{type(error).__name__}: {error}"
                family, tags = row.family, row.goal.tags
                return Result(row.id, Ending.ERROR, reason=named, family=family, tags=tags, row=digest)
        last = session.events[-1]
        if last.kind != "end" or last.data["ending"] == Ending.INTERRUPTED:
            return None
        return Result.of_session(row, digest, session, self.layout.out)

    def _session(self, row: GoalRow, id: str) -> Session:
        """The session, run to its end."""
        session = _readable(self.layout.journal(id))
        if session is not None:
            last = session.events[-1]
            if last.kind == "end" and last.data["ending"] not in UNFINISHED:
                return session
        else:
            self.prepare(row)
        return self._drive(row, id, resume=session is not None)

    def _last_told(self, id: str) -> Session | None:
        """The session, if its journal says itself how it ended."""
        try:
            session = _readable(self.layout.journal(id))
        except WhetstoneError:
            return None
        return session if session is not None and session.events[-1].kind == "end" else None

    def _drive(self, row: GoalRow, id: str, *, resume: bool) -> Session:
        settings, path = self.settings_of(row), self.layout.journal(id)
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

    def settings_of(self, row: GoalRow) -> Settings:
        """Those of the batch with what the row says, and its places."""
        now = with_model(self.settings, row.model)
        changed: dict[str, Any] = {
            "paths": now.paths.model_copy(update={"workspace": self.layout.workspace(row), "data": self.layout.data}),
            "budget": now.budget.model_copy(update=asdict(row.goal.budget)),
            "memory": now.memory.model_copy(update={"enabled": self.memory != "none" or bool(row.remembered)}),
        }
        if row.seed is not None:
            changed["sampling"] = now.sampling.model_copy(update={"seed": row.seed})
        return now.model_copy(update=changed)

    def _memory_of(self, row: GoalRow) -> Memory | None:
        if row.remembered or self.memory == "own":
            return self.shared.memory.own(self.layout.memory(row), row.remembered)
        return self.shared.memory.read_only() if self.memory == "shared-read" else None

    def prepare(self, row: GoalRow) -> None:
        """The workspace as the row wants it; what an earlier version of the row left there goes.

        Raises WhetstoneError where it cannot be made so.
        """
        workspace = self.layout.workspace(row)
        shutil.rmtree(self.layout.memory(row), ignore_errors=True)
        try:
            if workspace.exists():
                shutil.rmtree(workspace)
            if row.workspace is None:
                workspace.mkdir(parents=True)
            elif not row.workspace.is_dir():
                raise WhetstoneError(
                    f"the workspace {row.workspace} of goal {row.id} is not a folder: name one that is"
                )
            elif self.layout.out.resolve().is_relative_to(row.workspace.resolve()):
                raise WhetstoneError(
                    f"{self.layout.out} lies in the workspace {row.workspace}: name a folder outside it"
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
