"""The memory of one folder: records in the catalogue, vectors in Chroma, found again by meaning and by words.

folder/current          the name of the index in use; a rebuild makes a new one beside it and renames this file
folder/index-…/         records.sqlite3 (the catalogue) and chroma/ (the vectors)
folder/ledger.jsonl     what no journal holds: documents added, records forgotten
folder/lock             who is in the index
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.types import MemoryRecord, Recalled, WhetstoneError
from memory.catalogue import Catalogue
from memory.embed import Embedder, load_embedder
from memory.ledger import Ledger
from memory.lock import FolderLock
from memory.record import embedded_text, trust
from memory.rows import Filter, Row, pack
from memory.search import FEW, RELEVANT, search
from memory.store import SCHEMA, DenseIndex, check_made_with


class VectorMemory:
    """`agent.types.Memory` over a folder. Nothing heavy is loaded before it is needed, or `warm` is called.

    Several processes may use one folder; each operation that touches the vectors waits for its turn.
    """

    def __init__(
        self,
        folder: Path,
        *,
        embedder: str | Embedder = "minilm",
        lock_seconds: float = 10.0,
        cache: Path | None = None,
    ):
        self.folder = folder
        self._embedder_name = embedder if isinstance(embedder, str) else embedder.name
        self._embedder = None if isinstance(embedder, str) else embedder
        self._wait_seconds = lock_seconds
        self._cache = cache
        self._dense: DenseIndex | None = None
        self._catalogue: Catalogue | None = None
        self._index_name = ""
        self._made: dict[str, str] = {}
        self._threads = threading.RLock()
        with _sentences(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FolderLock(folder / "lock", lock_seconds)
        self._seen_visits = 0
        self.ledger = Ledger(folder / "ledger.jsonl")

    def warm(self) -> None:
        """Load what the first recall needs, so that it need not: the embedding model, and Chroma for many records.

        Raises WhetstoneError.
        """
        self.embedder()
        with self.reading() as catalogue:
            many = catalogue.count() > FEW
        if many:
            with self.writing():
                pass

    def add(self, records: Iterable[MemoryRecord], *, progress: Callable[[int, int], None] | None = None) -> None:
        """Store records; one that is known by its id, or was forgotten, changes nothing. Raises WhetstoneError.

        `progress` is given how many of how many texts are embedded.
        """
        records = [_storable(record) for record in records]
        for record in records:
            if record.kind == "lesson" and trust(record.origin) == "untrusted":
                raise WhetstoneError(
                    f"A lesson cannot come from {record.origin}: what a tool returned may be quoted, never followed; "
                    "store it as an observation."
                )
        with self.reading() as catalogue:
            new = catalogue.unknown(records)
            to_embed = [record for record in new if catalogue.needs_vector(record)]
        if not new:
            return
        embedded = self._embed([embedded_text(record) for record in to_embed], progress)
        packed = dict(zip((record.id for record in to_embed), embedded, strict=True))
        with self.writing() as (catalogue, dense):
            late = [r for r in catalogue.unknown(new) if r.id not in packed and catalogue.needs_vector(r)]
            packed.update(zip((r.id for r in late), self._embed([embedded_text(r) for r in late], None), strict=True))
            last = catalogue.last_key()
            with catalogue.transaction():
                keys = [catalogue.insert(record, packed.get(record.id)) for record in catalogue.unknown(new)]
                changed = sorted({key for key in keys if key is not None})
                if changed:
                    catalogue.set_meta(dirty=1)
            for batch, vectors in catalogue.vectors(changed):
                dense.upsert(batch, vectors, known=[key for key in batch if key <= last])
            catalogue.set_meta(dirty=0)

    def recall(
        self,
        query: str,
        *,
        limit: int = 5,
        max_chars: int = 1500,
        exclude_session: str | None = None,
        count: bool = True,
    ) -> list[Recalled]:
        """What a session is shown: the best records that have to do with `query` at all. Raises WhetstoneError.

        `exclude_session` is the session that asks. For it each record is counted as recalled, once, unless `count` is
        False: that is what its journal will say, from which a rebuild counts.
        """
        where = Filter(exclude_session=exclude_session)
        found = search(self, query, limit=limit, max_chars=max_chars, where=where, relevant=RELEVANT)
        if count and found and exclude_session is not None:
            # A full disk or a busy file is a reason not to count, but none not to recall.
            with self.reading() as catalogue, suppress(sqlite3.OperationalError):
                catalogue.count_recalls([(exclude_session, each.record.id) for each in found])
        return found

    def search(self, query: str, *, limit: int = 10, where: Filter | None = None) -> list[Recalled]:
        """What a person is shown: the best records, however weak, with the parts of their scores."""
        return search(self, query, limit=limit, where=where or Filter())

    def forget(self, ids: Sequence[str], *, for_good: bool = True) -> int:
        """Remove the rows that show these records, whoever said the same; how many rows that were.

        Forgotten for good, they stay away when the index is rebuilt or a session is resumed.
        """
        with self.writing() as (catalogue, dense):
            known = "SELECT record FROM members WHERE id = ?"
            found = {row[0] for ident in ids for row in catalogue.connection.execute(known, (ident,))}
            keys = sorted(found)
            members = catalogue.member_ids(keys)
            if not keys:
                return 0
            if for_good:
                self.ledger.append({"event": "forgotten", "ids": members})
            with catalogue.transaction():
                if for_good:
                    catalogue.mark_forgotten(members)
                catalogue.delete(keys)
                catalogue.set_meta(dirty=1)
            dense.delete(keys)
            catalogue.set_meta(dirty=0)
            return len(keys)

    def list_records(self, where: Filter | None = None, *, limit: int = -1, offset: int = 0) -> list[Row]:
        """Rows oldest first; no model is loaded."""
        with self.reading() as catalogue:
            return list(catalogue.select(where or Filter(), limit, offset))

    def embedder(self) -> Embedder:
        """The embedding model, loaded at the first call. Raises WhetstoneError if the index was made with another."""
        with self.reading() as catalogue:
            if self._made.get("embedder") != self._embedder_name and catalogue.count():
                check_made_with(self.folder, self._made, self._embedder_name)  # before a model is loaded in vain
            if self._embedder is None:
                self._embedder = load_embedder(self._embedder_name, cache=self._cache)
            if self._made.get("embedder") != self._embedder.name and not catalogue.count():
                with self.turn():
                    self._create()  # an index without records binds nobody to an embedder
                    self._open_catalogue()
            check_made_with(self.folder, self._made, self._embedder.name)
            return self._embedder

    def close(self) -> None:
        """Close the files. Safe to call twice; the next operation would open them again."""
        with self._threads:
            if self._dense is not None:
                self._dense.close()
            if self._catalogue is not None:
                self._catalogue.close()
            self._dense = self._catalogue = None

    def _embed(self, texts: Sequence[str], progress: Callable[[int, int], None] | None) -> list[bytes]:
        embedder = self.embedder()
        packed: list[bytes] = []
        for start in range(0, len(texts), 64):
            packed += pack(embedder.embed(texts[start : start + 64]))
            if progress is not None:
                progress(len(packed), len(texts))
        return packed

    @contextmanager
    def reading(self) -> Generator[Catalogue]:
        """The catalogue of the index in use now. Needs no turn: SQLite lets readers in beside a writer."""
        with self._threads, _sentences(self.folder):
            yield self._open_catalogue()

    @contextmanager
    def turn(self) -> Generator[None]:
        """Keep every other process out of the index for several operations in a row."""
        with self._threads, _sentences(self.folder), self._lock.held():
            yield

    @contextmanager
    def writing(self) -> Generator[tuple[Catalogue, DenseIndex]]:
        """The catalogue and the vectors, with nobody else in the index."""
        with self._threads, _sentences(self.folder), self._lock.held():
            catalogue = self._open_catalogue()
            if self._dense is not None and self._seen_visits != self._lock.visits:
                self._dense.close()
                self._dense = None
            self._seen_visits = self._lock.visits
            if self._dense is None:
                self._dense = DenseIndex(self.folder / self._index_name / "chroma", self._made["embedder"])
                # Whoever died in the middle of a write left the mark of one; the catalogue has all that Chroma needs.
                if catalogue.meta()["dirty"] != "0" or self._dense.count() != catalogue.count():
                    self._dense.refill(catalogue.vectors())
                    catalogue.set_meta(dirty=0)
            yield catalogue, self._dense

    def _open_catalogue(self) -> Catalogue:
        current = self.folder / "current"
        name = current.read_text() if current.exists() else ""
        if self._catalogue is None or name != self._index_name:
            self.close()
            if not name:
                with self._lock.held():
                    name = current.read_text() if current.exists() else self._create()
            self._catalogue = Catalogue(self.folder / name / "records.sqlite3", self._wait_seconds)
            self._index_name = name
            self._made = self._catalogue.meta()
        return self._catalogue

    def _create(self) -> str:
        name = f"index-{secrets.token_hex(4)}"
        catalogue = Catalogue(self.folder / name / "records.sqlite3", self._wait_seconds)
        catalogue.set_meta(schema=SCHEMA, embedder=self._embedder_name, dirty=0)
        catalogue.close()
        self._point_to(name)
        return name

    def _point_to(self, name: str) -> None:
        fresh = self.folder / f".current-{secrets.token_hex(4)}"
        fresh.write_text(name)
        fresh.replace(self.folder / "current")

    def replace_index(self, scratch: VectorMemory) -> None:
        """Take over the index of `scratch`, a memory in a folder of the same file system. The caller is writing."""
        old = self._index_name
        scratch.close()
        name = f"index-{secrets.token_hex(4)}"
        (scratch.folder / scratch._index_name).rename(self.folder / name)
        self.close()
        self._point_to(name)
        if old:
            shutil.rmtree(self.folder / old, ignore_errors=True)


def _storable(record: MemoryRecord) -> MemoryRecord:
    fields = {name: _encodable(getattr(record, name)) for name in ("id", "text", "origin", "session", "goal")}
    return replace(record, **fields)


def _encodable(text: str) -> str:
    """Lone surrogates, which neither SQLite nor the tokenizer takes, become question marks."""
    return text.encode("utf-8", "replace").decode()


@contextmanager
def _sentences(folder: Path) -> Generator[None]:
    """Turns what SQLite, Chroma and the system say into one sentence that tells what to do."""
    try:
        yield
    except WhetstoneError:
        raise
    except Exception as error:
        ours = isinstance(error, sqlite3.Error | OSError) or type(error).__module__.startswith("chromadb")
        if not ours:
            raise
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            advice = "derive it anew with `python -m agent memory rebuild`"
        else:
            advice = "look at the disk's free space and the folder's permissions, or run with --no-memory"
        raise WhetstoneError(f"The memory in {folder} cannot be used ({reason}); {advice}.") from error
