"""What the sessions of one process share: the loaded model, the proof that the sandbox holds, the embedding model."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from agent.parts import open_sandbox_in
from agent.settings import Settings
from agent.types import Capability, Memory, MemoryRecord, Recalled, Sandbox
from tools.sandbox.deferred import DeferredSandbox

if TYPE_CHECKING:
    from memory.embed import Embedder
    from memory.index import VectorMemory


class SharedSandbox:
    """Finds out once which sandbox holds here; a session's own starts, and takes the proof, with its first script."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._found: tuple[Capability | None, tuple[Capability, ...]] | None = None

    def open(self, folder: Path) -> tuple[Sandbox | None, tuple[Capability, ...]]:
        """As `agent.parts.open_sandbox_in`."""
        capability, tried = self._capability()
        if capability is None:
            return None, tried
        return DeferredSandbox(capability, lambda: open_sandbox_in(self._settings, folder)[0]), tried

    def _capability(self) -> tuple[Capability | None, tuple[Capability, ...]]:
        with self._lock:
            if self._found is None:
                with tempfile.TemporaryDirectory(prefix="whetstone-") as folder:
                    sandbox, tried = open_sandbox_in(self._settings, Path(folder))
                    if sandbox is not None:
                        sandbox.close()
                self._found = (None if sandbox is None else sandbox.capability), tried
            return self._found


class SharedMemory:
    """Memories that share one embedding model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._common: VectorMemory | None = None

    def own(self, folder: Path, notes: Sequence[str]) -> Memory:
        """A memory in `folder` that holds `notes` and what its session adds. Raises WhetstoneError."""
        from memory.index import VectorMemory

        memory = VectorMemory(folder, embedder=self._model())
        if notes:
            memory.add(_records(notes))
        return memory

    def read_only(self) -> Memory:
        """The user's memory, to be asked and not to be changed. Raises WhetstoneError."""
        from memory.index import VectorMemory

        model = self._model()
        with self._lock:
            if self._common is None:
                self._common = VectorMemory(self._settings.paths.data / "memory", embedder=model)
            return _ReadOnly(self._common)

    def close(self) -> None:
        if self._common is not None:
            self._common.close()

    def _model(self) -> Embedder:
        from memory.embed import load_embedder

        with self._lock:
            if self._embedder is None:
                self._embedder = load_embedder(self._settings.memory.embedder, cache=self._settings.paths.cache)
            return self._embedder


class _ReadOnly:
    """Asks a memory and leaves it as it is: nothing is added, and what is recalled is not counted."""

    def __init__(self, memory: VectorMemory) -> None:
        self._memory = memory

    def add(self, records: Iterable[MemoryRecord]) -> None:
        return

    def recall(
        self, query: str, *, limit: int = 5, max_chars: int = 1500, exclude_session: str | None = None
    ) -> Sequence[Recalled]:
        return self._memory.recall(
            query, limit=limit, max_chars=max_chars, exclude_session=exclude_session, count=False
        )

    def close(self) -> None:
        return


def _records(notes: Sequence[str]) -> list[MemoryRecord]:
    """Notes as an earlier session of the user's would have left them. Their ids are their places: given once only."""
    return [
        MemoryRecord(f"given-{number}", text, "note", "user", "earlier", number, "", time())
        for number, text in enumerate(notes, start=1)
    ]
