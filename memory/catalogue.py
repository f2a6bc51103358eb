"""The records themselves, in one SQLite file: what each says, where it came from, and its vector.

SQLite in WAL mode may be read by any number of processes while one writes, and survives a kill at any moment. Records
that say the same fold into one row; `members` remembers each of them, so adding a record twice changes nothing, and
rows do not depend on the order in which records arrive: the row shows the earliest, and the time of the latest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.types import MemoryRecord
from memory import lexical
from memory.fold import fold_key
from memory.rows import FIELDS, Filter, Place, Row, matrix, row_of, shown_fields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TABLES = """
    CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS records(
        key INTEGER PRIMARY KEY AUTOINCREMENT, fold TEXT NOT NULL UNIQUE, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
        kind TEXT NOT NULL, origin TEXT NOT NULL, session TEXT NOT NULL, step INTEGER NOT NULL, goal TEXT NOT NULL,
        created REAL NOT NULL, importance REAL NOT NULL, last_seen REAL NOT NULL, count INTEGER NOT NULL,
        recalled INTEGER NOT NULL DEFAULT 0, vector BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS records_kind ON records(kind);
    CREATE TABLE IF NOT EXISTS members(
        id TEXT PRIMARY KEY, record INTEGER NOT NULL, session TEXT NOT NULL, step INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS members_place ON members(session, step, record);
    CREATE INDEX IF NOT EXISTS members_record ON members(record, session);
    CREATE TABLE IF NOT EXISTS forgotten(id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS documents(path TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
"""
_RECALLS = """
    CREATE TABLE IF NOT EXISTS recalls(
        record INTEGER NOT NULL, session TEXT NOT NULL, PRIMARY KEY(record, session)) WITHOUT ROWID;
"""
_CACHE_KIB = 32 * 1024
"""A few ten thousand records: with SQLite's own 2 MiB most of what a recall looks at is read anew."""
_NAMED = 500


class Catalogue:
    """The SQLite file. Writers hold the folder's lock; readers need none."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'lexicon_update'").fetchone():
            self.connection.executescript(_TABLES)
            lexical.create(self.connection)
        self.connection.execute(_RECALLS)  # an index made before it was known who was shown what has no such table
        lexical.prepare(self.connection)

    @contextmanager
    def transaction(self) -> Generator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:  # a full disk has rolled back already
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def meta(self) -> dict[str, str]:
        return dict(self.connection.execute("SELECT name, value FROM meta"))

    def set_meta(self, **values: object) -> None:
        rows = [(name, str(value)) for name, value in values.items()]
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def unknown(self, records: Iterable[MemoryRecord]) -> list[MemoryRecord]:
        """Those of `records` that are neither here nor forgotten, each once."""
        seen = "SELECT 1 FROM members WHERE id = ? UNION ALL SELECT 1 FROM forgotten WHERE id = ?"
        distinct = {record.id: record for record in records}
        return [r for r in distinct.values() if not self.connection.execute(seen, (r.id, r.id)).fetchone()]

    def last_key(self) -> int:
        """The largest key so far, 0 without records. Keys only grow."""
        return int(self.connection.execute("SELECT ifnull(max(key), 0) FROM records").fetchone()[0])

    def needs_vector(self, record: MemoryRecord) -> bool:
        """Whether adding `record` would show its text: a new row, or one whose earliest record it is."""
        row = self.connection.execute("SELECT created, id FROM records WHERE fold = ?", (fold_key(record),)).fetchone()
        return row is None or (record.created, record.id) < (row[0], row[1])

    def insert(self, record: MemoryRecord, vector: bytes | None) -> int | None:
        """Add one record, within a transaction; the key of the row whose vector changed, if one did.

        `vector` may be None only if `needs_vector` said no.
        """
        fold = fold_key(record)
        execute = self.connection.execute
        row = execute("SELECT key, created, id FROM records WHERE fold = ?", (fold,)).fetchone()
        if row is None:
            assert vector is not None
            key = int(
                execute(
                    "INSERT INTO records(fold, id, text, kind, origin, session, step, goal, created, importance, "
                    "last_seen, count, vector) VALUES (?,?,?,?,?,?,?,?,?,?,?,1,?)",
                    (fold, *shown_fields(record), record.created, vector),
                ).lastrowid
                or 0
            )
            execute("INSERT INTO members VALUES (?,?,?,?)", (record.id, key, record.session, record.step))
            return key
        key, *shown = row
        self.join(record.id, key, record.session, record.step, record.created)
        if vector is None or (record.created, record.id) > tuple(shown):
            return None
        execute(
            "UPDATE records SET id=?, text=?, kind=?, origin=?, session=?, step=?, goal=?, created=?, importance=?, "
            "vector=? WHERE key=?",
            (*shown_fields(record), vector, key),
        )
        return int(key)

    def rows(self, keys: Sequence[int]) -> dict[int, Row]:
        """The rows of those keys that exist."""
        found: dict[int, Row] = {}
        for part, marks in _parts(keys):
            for fields in self.connection.execute(f"SELECT {FIELDS} FROM records WHERE key IN ({marks})", part):
                found[fields[0]] = row_of(fields)
        return found

    def places(self, keys: Sequence[int]) -> list[Place]:
        """Of those keys that exist."""
        found: list[Place] = []
        for part, marks in _parts(keys):
            query = (
                "SELECT key, kind, session, step, importance, last_seen, length(text), vector FROM records "
                f"WHERE key IN ({marks})"
            )
            found += map(Place._make, self.connection.execute(query, part))
        return found

    def select(self, where: Filter, limit: int = -1, offset: int = 0) -> Generator[Row]:
        """Rows in order of time, oldest first."""
        condition, values = where.sql()
        query = f"SELECT {FIELDS} FROM records WHERE {condition} ORDER BY created, id LIMIT ? OFFSET ?"
        for fields in self.connection.execute(query, (*values, limit, offset)):
            yield row_of(fields)

    def keys(self, where: Filter, limit: int) -> list[int]:
        condition, values = where.sql()
        query = f"SELECT key FROM records WHERE {condition} LIMIT ?"
        return [row[0] for row in self.connection.execute(query, (*values, limit))]

    def meeting(self, where: Filter, keys: Sequence[int]) -> list[int]:
        """Those of `keys` whose records meet the filter."""
        condition, values = where.sql()
        if condition == "1":
            return list(keys)
        found: list[int] = []
        for part, marks in _parts(keys):
            query = f"SELECT key FROM records WHERE key IN ({marks}) AND {condition}"
            found += [row[0] for row in self.connection.execute(query, (*part, *values))]
        return found

    def vectors(
        self, keys: Sequence[int] | None = None, where: Filter | None = None
    ) -> Generator[tuple[list[int], NDArray[np.float32]]]:
        """Keys and vectors in batches, float32 [batch, dimensions], of `keys` or else of all that meet the filter."""
        if keys is None:
            condition, values = (where or Filter()).sql()
            query = f"SELECT key, vector FROM records WHERE {condition}"
            batches = _batches(self.connection.execute(query, values).fetchmany)
        else:
            query = "SELECT key, vector FROM records WHERE key IN"
            batches = (self.connection.execute(f"{query} ({marks})", part).fetchall() for part, marks in _parts(keys))
        for batch in batches:
            if batch:
                yield [row[0] for row in batch], matrix([row[1] for row in batch])

    def neighbours(self, session: str, step: int) -> list[int]:
        """Keys of the records one step before and after."""
        query = "SELECT record FROM members WHERE session = ? AND step IN (?, ?)"
        return [row[0] for row in self.connection.execute(query, (session, step - 1, step + 1))]

    def member_ids(self, keys: Sequence[int]) -> list[str]:
        query = "SELECT id FROM members WHERE record = ?"
        return [row[0] for key in keys for row in self.connection.execute(query, (key,))]

    def said_with(self, ids: Iterable[str]) -> set[str]:
        """The ids of all records in the rows that show one of `ids`."""
        query = "SELECT id FROM members WHERE record = (SELECT record FROM members WHERE id = ?)"
        return {row[0] for ident in ids for row in self.connection.execute(query, (ident,))}

    def delete(self, keys: Sequence[int]) -> None:
        rows = [(key,) for key in keys]
        self.connection.executemany("DELETE FROM members WHERE record = ?", rows)
        self.connection.executemany("DELETE FROM recalls WHERE record = ?", rows)
        self.connection.executemany("DELETE FROM records WHERE key = ?", rows)

    def known_ids(self) -> set[str]:
        return {row[0] for row in self.connection.execute("SELECT id FROM members")}

    def copy_members(self, ids: Iterable[str], target: Catalogue) -> None:
        """Count records that folded into a row here in the same row of `target`, where it has one."""
        query = (
            "SELECT m.id, m.session, m.step, r.fold, r.last_seen FROM members m JOIN records r ON r.key = m.record "
            "WHERE m.id = ?"
        )
        for ident in ids:
            _, session, step, fold, last_seen = self.connection.execute(query, (ident,)).fetchone()
            row = target.connection.execute("SELECT key FROM records WHERE fold = ?", (fold,)).fetchone()
            if row is not None:
                target.join(ident, row[0], session, step, last_seen)

    def join(self, ident: str, key: int, session: str, step: int, created: float) -> None:
        """Let a record count in the row that says the same already."""
        latest = "UPDATE records SET count = count + 1, last_seen = max(last_seen, ?) WHERE key = ?"
        self.connection.execute(latest, (created, key))
        self.connection.execute("INSERT INTO members VALUES (?,?,?,?)", (ident, key, session, step))

    def count_recalls(self, shown: Iterable[tuple[str, str]]) -> None:
        """Count that a session (its id comes first) was shown a record: once, however often it was."""
        noting = "INSERT OR IGNORE INTO recalls SELECT record, ? FROM members WHERE id = ?"
        counting = "UPDATE records SET recalled = recalled + 1 WHERE key = (SELECT record FROM members WHERE id = ?)"
        with self.transaction():
            for session, ident in shown:
                if self.connection.execute(noting, (session, ident)).rowcount == 1:
                    self.connection.execute(counting, (ident,))

    def recalls(self) -> set[tuple[str, str]]:
        """Which session was shown which record, as `count_recalls` takes it."""
        query = "SELECT recalls.session, id FROM recalls JOIN records ON key = record"
        return set(self.connection.execute(query))

    def documents(self) -> dict[str, str]:
        """Path and content digest of each document."""
        return dict(self.connection.execute("SELECT path, digest FROM documents"))

    def set_document(self, path: str, digest: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (path, digest))

    def remove_document(self, path: str) -> None:
        self.connection.execute("DELETE FROM documents WHERE path = ?", (path,))

    def mark_forgotten(self, ids: Iterable[str]) -> None:
        self.connection.executemany("INSERT OR IGNORE INTO forgotten VALUES (?)", [(ident,) for ident in ids])

    def count(self, where: Filter | None = None) -> int:
        condition, values = (where or Filter()).sql()
        return int(self.connection.execute(f"SELECT count(*) FROM records WHERE {condition}", values).fetchone()[0])

    def close(self) -> None:
        self.connection.close()


def _parts(keys: Sequence[int]) -> Generator[tuple[Sequence[int], str]]:
    """Keys, as many at a time as a statement should name, and the marks that stand for them."""
    for start in range(0, len(keys), _NAMED):
        part = keys[start : start + _NAMED]
        yield part, ",".join("?" * len(part))


def _batches(fetch: Callable[[int], list[Any]]) -> Generator[list[Any]]:
    while batch := fetch(1000):
        yield batch
