"""The user's own text files in memory, so that recall answers from them with file and line.

A document is a run of passages: whole lines, about five hundred characters, each beginning a little before the last
one ended. A passage counts as a step of its document, so a hit lifts the passages beside it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.types import MemoryRecord, WhetstoneError
from memory.record import record_id
from memory.rows import Filter

if TYPE_CHECKING:
    from memory.index import VectorMemory

_PASSAGE_CHARS = 500
"""Well within what the embedding model reads (256 tokens), and so short that one sentence still shows in the vector."""
_OVERLAP_CHARS = 120
_MAX_FILE_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class Added:
    """What became of the files: paths, each in one of the lists."""

    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    """Path and reason, of files found in folders that are no text."""
    passages: int


class Documents:
    """The documents of one memory."""

    def __init__(self, memory: VectorMemory) -> None:
        self._memory = memory

    def add(self, paths: Sequence[Path], *, progress: Callable[[int, int, str], None] | None = None) -> Added:
        """Index text files, and all in folders (hidden ones aside, links not followed).

        A file whose content is indexed already is passed over, one that changed replaces its old passages. `progress`
        gets how many of how many files are done, and the next one's path. Raises WhetstoneError, before anything is
        done, for a path that is not there, and for a file given by name that is no text: those before it are kept.
        """
        if missing := next((path for path in paths if not path.exists()), None):
            raise _missing(missing)
        files = [found for path in paths for found in _files(path)]
        added: list[str] = []
        unchanged: list[str] = []
        skipped: list[tuple[str, str]] = []
        passages = 0
        for done, (path, named) in enumerate(files):
            if progress is not None:
                progress(done, len(files), str(path))
            try:
                count = self.add_file(path)
            except WhetstoneError as error:
                if named:
                    raise
                skipped.append((str(path), str(error)))
                continue
            (unchanged if count is None else added).append(str(path))
            passages += count or 0
        if progress is not None:
            progress(len(files), len(files), "")
        return Added(tuple(added), tuple(unchanged), tuple(skipped), passages)

    def add_file(self, path: Path) -> int | None:
        """Index one file; how many passages it has, None if nothing changed. Raises WhetstoneError."""
        path = path.absolute()
        text = _read(path)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with self._memory.reading() as catalogue:
            if catalogue.documents().get(str(path)) == digest:
                return None
        # Whatever moment a crash picks, the file counts as not indexed until all of its passages are in.
        with self._memory.turn():
            self._memory.ledger.append({"event": "document", "path": str(path)})
            self._drop(path)
        records = passages(path, text)
        self._memory.add(records)
        with self._memory.turn(), self._memory.reading() as catalogue:
            catalogue.set_document(str(path), digest)
        return len(records)

    def remove(self, path: Path) -> bool:
        """Take a document out; False if it is not in."""
        path = path.absolute()
        with self._memory.turn(), self._memory.reading() as catalogue:
            if str(path) not in catalogue.documents():
                return False
            self._memory.ledger.append({"event": "document_removed", "path": str(path)})
            self._drop(path)
            return True

    def paths(self) -> list[str]:
        with self._memory.reading() as catalogue:
            return sorted(catalogue.documents())

    def expected(self) -> list[MemoryRecord]:
        """The passages of the documents as they are on disk now, for comparison; a missing file has none."""
        found: list[MemoryRecord] = []
        for path in self.paths():
            try:
                found += passages(Path(path), _read(Path(path)))
            except WhetstoneError:
                continue
        return found

    def _drop(self, path: Path) -> None:
        with self._memory.reading() as catalogue:
            catalogue.remove_document(str(path))
        rows = self._memory.list_records(Filter(session=_session(path)))
        self._memory.forget([row.record.id for row in rows], for_good=False)


def passages(path: Path, text: str) -> list[MemoryRecord]:
    """The records of one document. The first line of each tells the file and the lines."""
    records: list[MemoryRecord] = []
    created = path.stat().st_mtime
    for number, (first, last, passage) in enumerate(_split(text)):
        shown = f"{path}:{first}-{last}\n{passage}"
        records.append(
            MemoryRecord(
                id=record_id("document", str(path), str(number), passage),
                text=shown,
                kind="document",
                origin="user",
                session=_session(path),
                step=number,
                goal="",
                created=created,
                importance=0.5,
            )
        )
    return records


def _session(path: Path) -> str:
    return f"document:{path}"


def _split(text: str) -> Generator[tuple[int, int, str]]:
    """First line, last line and text of each passage; lines count from 1."""
    lines = [
        (number, line[at : at + _PASSAGE_CHARS])
        for number, line in enumerate(text.splitlines(), start=1)
        for at in range(0, max(1, len(line)), _PASSAGE_CHARS)
    ]
    start = 0
    while start < len(lines):
        end, size = start, 0
        while end < len(lines) and (end == start or size + len(lines[end][1]) <= _PASSAGE_CHARS):
            size += len(lines[end][1]) + 1
            end += 1
        passage = "\n".join(line for _, line in lines[start:end])
        if passage.strip():
            yield lines[start][0], lines[end - 1][0], passage
        if end == len(lines):
            return
        back, overlap = end, 0
        while back - 1 > start and overlap + len(lines[back - 1][1]) <= _OVERLAP_CHARS:
            back -= 1
            overlap += len(lines[back][1]) + 1
        start = back


def _files(path: Path) -> Iterable[tuple[Path, bool]]:
    """The files at or under `path`, and whether the user named the file itself."""
    if not path.is_dir():
        return [(path, True)]
    found: list[tuple[Path, bool]] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        plain = (Path(folder) / name for name in sorted(names) if not name.startswith("."))
        found += [(file, False) for file in plain if file.is_file() and not file.is_symlink()]
    return found


def _missing(path: Path) -> WhetstoneError:
    return WhetstoneError(f"There is no file {path}; give the path of a text file or of a folder.")


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise _missing(path)
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise WhetstoneError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB; split it, then add the parts.")
        raw = path.read_bytes()
    except OSError as error:
        raise WhetstoneError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        if b"\0" in raw:
            raise ValueError("NUL byte")
        return raw.decode("utf-8-sig")
    except ValueError as error:
        raise WhetstoneError(f"{path} is not a UTF-8 text file; convert it to text, then add it.") from error
