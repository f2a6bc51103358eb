"""The part of a Ray run that lives on a node: one model, and the goals that are sent to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.batch.folder import Layout
from agent.batch.goals import GoalRunner, MemoryMode, Shared
from agent.batch.parcel import MAX_BYTES, pack, size_of, unpack
from agent.batch.results import Result
from agent.batch.stopping import Stopping
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.settings import Settings, load_settings
from agent.types import JSON, Policy, WhetstoneError

LOCK_SECONDS = 120.0
"""How long a session that another process writes is waited for: one on a lost node ends within a minute or so."""


@dataclass(frozen=True)
class Errand:
    """One goal on its way to a node. Where the node cannot see our disk, `material` is the goal's workspace, and
    `begun` is what there is of a session that was cut: its journal, its kept files, its workspace."""

    row: GoalRow
    digest: str
    session: str
    material: bytes | None = None
    begun: bytes | None = None


@dataclass(frozen=True)
class Delivery:
    """What comes back. `parcel` is what there is of the session, from a node that cannot see our disk."""

    result: Result | None
    parcel: bytes | None = None


class GoalWorker:
    """A Ray actor: ask for its identity, tell it the folder with `join`, then send goals."""

    def __init__(
        self,
        settings: Settings,
        in_flight: int,
        policy: Callable[[str, GoalRow], Policy] | None,
        memory: MemoryMode,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._settings = settings
        if settings.origin("paths.cache") == "default":  # that is a place on the driver's machine
            paths = settings.paths.model_copy(update={"cache": load_settings().paths.cache})
            self._settings = settings.model_copy(update={"paths": paths})
        self._policy = policy
        self._memory: MemoryMode = memory
        self._stopping = Stopping()
        self._shared = self._stack.enter_context(Shared.opened(self._settings, in_flight))

    def identity(self, named: Sequence[str]) -> Mapping[str, JSON]:
        """Which models these are, that of the settings and those `named` by rows. Raises as `SharedModels.identity`."""
        return {} if self._policy is not None else self._shared.models.identity(self._settings, named)

    def join(self, out: Path, token: Path | None) -> bool:
        """Work for the batch in `out`; True where that folder is seen from here, as the file `token` in it proves."""
        self._shares_disk = token is not None and token.exists()
        if not self._shares_disk:
            out = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="whetstone-batch-")))
        common = self._settings.paths.data / "memory"
        if self._memory == "shared-read" and not common.is_dir():
            raise WhetstoneError(
                f"{common} is not there on {os.uname().nodename}: share the folder, or use --memory none"
            )
        self._layout = Layout(out)
        self._runner = GoalRunner(
            self._settings, self._layout, self._shared, self._policy, self._memory, self._stopping
        )
        return self._shares_disk

    def run(self, errand: Errand) -> Delivery:
        """Run a goal, or what is left of it, to its end."""
        row = errand.row
        if self._shares_disk:
            _wait_for_writer(self._layout.journal(errand.session))
            return Delivery(self._runner.run(row, errand.digest, errand.session))
        if errand.begun is not None:
            unpack(errand.begun, self._layout.out)
        with tempfile.TemporaryDirectory(prefix="whetstone-material-") as folder:
            if errand.material is not None:
                unpack(errand.material, Path(folder))
                row = replace(row, workspace=Path(folder))
            result = self._runner.run(row, errand.digest, errand.session)
        return Delivery(result, pack_session(self._layout, row, errand.session))

    def stop(self) -> None:
        """End the goals that run here after what they are doing at the moment."""
        self._stopping.stop()


def pack_session(layout: Layout, row: GoalRow, session: str) -> bytes:
    """All there is of a session: journal, kept files, memory of its own, workspace (unless that is very large)."""
    journal, workspace = layout.journal(session), layout.workspace(row)
    paths = [journal, layout.memory(row)]
    if journal.exists():
        kept = next((e.data["files"] for e in read_session(journal).events if e.kind == "workspace"), [])
        paths += [layout.data / "objects" / file["sha256"][:2] / file["sha256"] for file in kept]
    if workspace.exists() and size_of(workspace) <= MAX_BYTES:
        paths.append(workspace)
    return pack(layout.out, paths)


def _wait_for_writer(journal: Path) -> None:
    """Return when nobody writes the journal any more, or patience is over: whoever opens it next then says so."""
    end = time.monotonic() + LOCK_SECONDS
    while journal.exists() and time.monotonic() < end:
        fd = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.5)
        finally:
            os.close(fd)
