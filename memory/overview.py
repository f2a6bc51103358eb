"""What a memory holds: numbers for a person, and all of it as JSON lines for any other program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.types import JSON, WhetstoneError
from memory.index import VectorMemory
from memory.record import trust
from memory.rows import Filter, Row


@dataclass(frozen=True)
class Stats:
    folder: Path
    embedder: str
    records: int
    said: int
    """Records before folding: what was said, counting every repetition."""
    recalled: int
    """The sum over all records of how many sessions were shown it."""
    kinds: dict[str, int]
    origins: dict[str, int]
    sessions: int
    documents: int
    oldest: float | None
    """Unix time, seconds, of the first record; None in an empty memory."""
    newest: float | None
    bytes: int
    """Size of everything in the folder."""


def stats(memory: VectorMemory) -> Stats:
    """Counts over the whole memory. No model is loaded. Raises WhetstoneError if the folder cannot be read."""
    kinds: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    said = recalled = 0
    sessions: set[str] = set()
    oldest: float | None = None
    newest: float | None = None
    with memory.reading() as catalogue:
        for row in catalogue.select(Filter()):
            kinds[row.record.kind] += 1
            origins[row.record.origin] += 1
            said += row.count
            recalled += row.recalled
            if row.record.kind != "document":
                sessions.add(row.record.session)
            oldest = row.record.created if oldest is None else min(oldest, row.record.created)
            newest = row.last_seen if newest is None else max(newest, row.last_seen)
        return Stats(
            folder=memory.folder,
            embedder=catalogue.meta()["embedder"],
            records=kinds.total(),
            said=said,
            recalled=recalled,
            kinds=dict(kinds.most_common()),
            origins=dict(origins.most_common()),
            sessions=len(sessions),
            documents=len(catalogue.documents()),
            oldest=oldest,
            newest=newest,
            bytes=sum(file.stat().st_size for file in memory.folder.rglob("*") if file.is_file()),
        )


def export(memory: VectorMemory, where: Filter | None = None) -> Iterator[str]:
    """Every record as one line of JSON, oldest first, with the fields of `row_data`."""
    for row in memory.list_records(where):
        yield json.dumps(row_data(row), ensure_ascii=False)


def row_data(row: Row) -> dict[str, JSON]:
    """The record's fields, its trust, its count and its uses."""
    return asdict(row.record) | {
        "trust": trust(row.record.origin),
        "last_seen": row.last_seen,
        "count": row.count,
        "recalled": row.recalled,
    }


def identified(memory: VectorMemory, beginning: str) -> str:
    """The id of the one record whose id begins so. Raises WhetstoneError where there is none, or several."""
    with memory.reading() as catalogue:
        query = "SELECT id FROM members WHERE substr(id, 1, ?) = ? LIMIT 2"
        found = [row[0] for row in catalogue.connection.execute(query, (len(beginning), beginning))]
    if not beginning or len(found) != 1:
        how_many = "Several records have ids that begin" if found else "No record has an id that begins"
        raise WhetstoneError(f"{how_many} with {beginning!r}: `python -m agent memory list` shows the ids.")
    return str(found[0])
