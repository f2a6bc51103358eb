"""The index is derived: make it anew from the journals, or compare it with them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.types import Event, MemoryRecord, WhetstoneError
from memory.documents import Documents
from memory.fold import fold_key
from memory.index import VectorMemory
from memory.ledger import Ledger
from memory.lock import FolderLock
from memory.record import Deriver, embedded_text
from memory.rows import Filter, Row, matrix

_BATCH = 1000
_PROBES = 100
_SAME = 0.999
"""Cosine from which a stored vector counts as that of its text: half precision stays far above."""


@dataclass(frozen=True)
class Rebuilt:
    records: int
    missing_documents: tuple[str, ...] = ()
    """Paths of documents that were added once and are no longer there."""


@dataclass(frozen=True)
class Verification:
    """How the index compares with what the journals and documents say. Ids are those of the shown records."""

    records: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    """The record, its count or its time is not what the journals say."""
    wrong_vectors: tuple[str, ...] = ()
    """The vector is not that of the text, or a search for exactly this vector does not find it (by sample)."""

    @property
    def ok(self) -> bool:
        return not (self.missing or self.unexpected or self.different or self.wrong_vectors)


def rebuild(
    folder: Path,
    sessions: Iterable[Iterable[Event]],
    *,
    embedder: str = "minilm",
    lock_seconds: float = 10.0,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rebuilt:
    """Derive the index anew from the events of all sessions, the documents and the ledger; `progress` gets a count.

    The old index serves until the new one is complete. What is added meanwhile, by running sessions or as documents, is
    carried over, and what is forgotten or removed meanwhile stays away.
    Raises WhetstoneError, and leaves the old index, if another rebuild runs, a disk is full, or there is no embedder.
    """
    main = VectorMemory(folder, embedder=embedder, lock_seconds=lock_seconds, cache=cache)
    with FolderLock(folder / "rebuild.lock", 0.0).held():
        for left in folder.glob("rebuild-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        before, forgotten = _contents(main), main.ledger.forgotten()
        scratch = VectorMemory(
            folder / f"rebuild-{secrets.token_hex(4)}", embedder=embedder, lock_seconds=lock_seconds, cache=cache
        )
        try:
            with scratch.reading() as catalogue:
                catalogue.mark_forgotten(forgotten)
            _fill(scratch, sessions, progress)
            _match_documents(scratch, main.ledger)  # outside the turn, for embedding them may take minutes
            with main.turn():
                _forget_late(main, scratch, main.ledger.forgotten() - forgotten)
                missing = _match_documents(scratch, main.ledger)
                records = _swap(main, scratch, before)
        finally:
            scratch.close()
            main.close()
            shutil.rmtree(scratch.folder, ignore_errors=True)
    return Rebuilt(records, tuple(missing))


def verify(
    folder: Path,
    sessions: Iterable[Iterable[Event]],
    *,
    embedder: str = "minilm",
    lock_seconds: float = 10.0,
    cache: Path | None = None,
) -> Verification:
    """Compare every record of the index with the journals, and the vectors of a sample with their texts."""
    memory = VectorMemory(folder, embedder=embedder, lock_seconds=lock_seconds, cache=cache)
    try:
        forgotten = memory.ledger.forgotten()
        derived = [r for events in sessions for event_records in _derived(events) for r in event_records]
        derived += Documents(memory).expected()
        expected = _folded(record for record in derived if record.id not in forgotten)
        rows = {row.record.id: row for row in memory.list_records()}
        different = [ident for ident, said in expected.items() if ident in rows and _differs(rows[ident], said)]
        return Verification(
            records=len(rows),
            missing=tuple(sorted(expected.keys() - rows.keys())),
            unexpected=tuple(sorted(rows.keys() - expected.keys())),
            different=tuple(different),
            wrong_vectors=tuple(_wrong_vectors(memory, list(rows.values()))),
        )
    finally:
        memory.close()


def _fill(memory: VectorMemory, sessions: Iterable[Iterable[Event]], progress: Callable[[int], None] | None) -> None:
    """Records of many sessions go in together: an index takes a thousand at once about as fast as ten."""
    waiting: list[MemoryRecord] = []
    shown: list[tuple[str, str]] = []
    done = 0
    for events in sessions:
        deriver, session = Deriver(), ""
        for event in events:
            waiting += deriver.feed(event)
            if event.kind == "session":
                session = str(event.data["session"])
            elif event.kind == "recall":
                shown += ((session, str(record["id"])) for record in event.data["records"])
        if len(waiting) >= _BATCH:
            done = _flush(memory, waiting, done, progress)
    _flush(memory, waiting, done, progress)
    with memory.reading() as catalogue:
        catalogue.count_recalls(shown)


def _flush(memory: VectorMemory, waiting: list[MemoryRecord], done: int, progress: Callable[[int], None] | None) -> int:
    memory.add(waiting, progress=None if progress is None else lambda at, _: progress(done + at))
    done += len(waiting)
    waiting.clear()
    return done


def _match_documents(scratch: VectorMemory, ledger: Ledger) -> list[str]:
    """Give `scratch` the documents of the ledger as they are on disk, and no others; the paths of those not there."""
    documents, wanted = Documents(scratch), ledger.documents()
    for path in documents.paths():
        if path not in wanted:
            documents.remove(Path(path))
    missing: list[str] = []
    for path in wanted:
        try:
            documents.add_file(Path(path))
        except WhetstoneError:
            missing.append(path)
    return missing


@dataclass(frozen=True)
class _Contents:
    """What an index knows: ids of records, and which session was shown which of them."""

    ids: set[str]
    recalls: set[tuple[str, str]]


def _contents(main: VectorMemory) -> _Contents | None:
    """What is there now; None when it cannot be read, which may be why it is rebuilt."""
    try:
        with main.reading() as catalogue:
            return _Contents(catalogue.known_ids(), catalogue.recalls())
    except WhetstoneError:
        return None


def _forget_late(main: VectorMemory, scratch: VectorMemory, late: set[str]) -> None:
    """Forget in `scratch` what was forgotten in `main` after the rebuild began: whoever said the same, as ever."""
    now = _contents(main)
    with scratch.reading() as catalogue:
        gone = late.union(catalogue.said_with(late)) - (now.ids if now else set())
    scratch.forget(sorted(late), for_good=False)
    with scratch.reading() as catalogue:
        catalogue.mark_forgotten(gone)
    if gone - late:  # said in sessions that `main` had not heard of
        main.ledger.append({"event": "forgotten", "ids": sorted(gone - late)})


def _swap(main: VectorMemory, scratch: VectorMemory, before: _Contents | None) -> int:
    """Carry over what sessions added since the rebuild began, then put the new index in the old one's place.

    The caller holds the turn of `main`.
    """
    if before is not None:
        with main.reading() as old:
            added = old.known_ids() - before.ids
            rows = [row.record for row in old.select(Filter()) if row.record.kind != "document"]
            scratch.add(record for record in rows if record.id in added)
            with scratch.reading() as new:
                old.copy_members(added - new.known_ids(), new)
                new.count_recalls(old.recalls() - before.recalls)
    with scratch.reading() as catalogue:
        count = catalogue.count()
    main.replace_index(scratch)
    return count


def _derived(events: Iterable[Event]) -> Iterable[list[MemoryRecord]]:
    deriver = Deriver()
    return (deriver.feed(event) for event in events)


def _folded(records: Iterable[MemoryRecord]) -> dict[str, tuple[MemoryRecord, float, int]]:
    """What the catalogue should show: by id of the earliest record, that record, the latest time and the count."""
    groups: dict[str, dict[str, MemoryRecord]] = {}
    for record in records:
        groups.setdefault(fold_key(record), {})[record.id] = record
    folded: dict[str, tuple[MemoryRecord, float, int]] = {}
    for group in groups.values():
        first = min(group.values(), key=lambda record: (record.created, record.id))
        folded[first.id] = (first, max(record.created for record in group.values()), len(group))
    return folded


def _differs(row: Row, said: tuple[MemoryRecord, float, int]) -> bool:
    if row.record.kind == "document":
        return row.record.text != said[0].text  # a file's time may change where its text does not
    return (row.record, row.last_seen, row.count) != said


def _wrong_vectors(memory: VectorMemory, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    sample = rows[:: max(1, len(rows) // _PROBES)][:_PROBES]
    stored = matrix([row.vector for row in sample])
    fresh = memory.embedder().embed([embedded_text(row.record) for row in sample])
    wrong: list[str] = []
    with memory.writing() as (_, dense):
        for row, vector, right in zip(sample, stored, fresh, strict=True):
            found = dense.search(vector, 10)
            if float(vector @ right) < _SAME or not any(cosine > _SAME for _, cosine in found):
                wrong.append(row.record.id)
    return wrong
