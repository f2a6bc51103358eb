"""The vectors in Chroma: nearest neighbours of a query, by cosine.

Chroma holds keys and vectors and nothing else; the records stand in the catalogue, which also keeps each vector, so
this folder can be thrown away and made again in seconds without embedding anything. Never a Chroma server: its client
runs inside this process, on files of the user alone.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.types import WhetstoneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1
_COLLECTION = "memory"
_BATCH = 1000
_SPELLING_BITS = 24


class DenseIndex:
    """One Chroma collection. The caller holds the folder's lock around every method."""

    def __init__(self, folder: Path, embedder: str) -> None:
        """Open the collection, or make it. Raises WhetstoneError if it was made with another embedder."""
        self._folder = folder
        self._embedder = embedder
        self._client, self._collection = self._open()

    def search(self, vector: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """Keys and cosine similarities of the nearest vectors, best first."""
        found = self._collection.query(query_embeddings=vector[None], n_results=limit, include=["distances"])
        return [
            (int(key), 1.0 - float(distance))
            for key, distance in zip(found["ids"][0], found["distances"][0], strict=True)
        ]

    def upsert(self, keys: Sequence[int], vectors: NDArray[np.float32], *, known: Sequence[int] = ()) -> None:
        """Store vectors, [len(keys), dimensions]. `known` are those of the keys that have one already."""
        # Chroma replays what was written since its last save in parallel at every opening. An update there can leave
        # the vector cut off from the graph, so that no search finds it until the next opening; a new one cannot.
        self.delete(known)
        for start in range(0, len(keys), _BATCH):
            part = slice(start, start + _BATCH)
            self._collection.upsert(ids=[str(key) for key in keys[part]], embeddings=vectors[part])

    def delete(self, keys: Sequence[int]) -> None:
        for start in range(0, len(keys), _BATCH):
            self._collection.delete(ids=[str(key) for key in keys[start : start + _BATCH]])

    def count(self) -> int:
        return int(self._collection.count())

    def refill(self, batches: Iterable[tuple[Sequence[int], NDArray[np.float32]]]) -> None:
        """Throw the collection away and fill a new one."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._client, self._collection = self._open()
        for keys, vectors in batches:
            self.upsert(keys, vectors)

    def close(self) -> None:
        self._client.close()

    def _open(self) -> tuple[Any, Any]:
        try:
            import chromadb
        except ValueError as error:  # it reads a `.env` while it is imported, and there is no way to ask it not to
            raise WhetstoneError(
                f"Chroma cannot start, because a setting in {Path.cwd() / '.env'} or in the environment is wrong for "
                "it; start in another folder, or run with --no-memory."
            ) from error
        from chromadb.config import Settings
        from chromadb.errors import NotFoundError

        self._folder.mkdir(parents=True, exist_ok=True)
        # Not from `.env` either: the folder this is run in must not say where telemetry goes.
        settings = Settings(_env_file=None, anonymized_telemetry=False)  # pyright: ignore[reportCallIssue]
        client: Any = chromadb.PersistentClient(_own_spelling(self._folder), settings=settings)
        try:
            try:
                collection = client.get_collection(_COLLECTION, embedding_function=None)
            except NotFoundError:
                collection = client.create_collection(
                    _COLLECTION,
                    embedding_function=None,
                    configuration={"hnsw": {"space": "cosine", "ef_construction": 100, "ef_search": 200}},
                    metadata={"embedder": self._embedder, "schema": SCHEMA},
                )
            check_made_with(self._folder.parent.parent, collection.metadata or {}, self._embedder)
        except BaseException:
            client.close()
            raise
        return client, collection


def check_made_with(folder: Path, made: Any, embedder: str) -> None:
    """Raises WhetstoneError when an index with the metadata `made` cannot serve this version with this embedder."""
    if int(made.get("schema", 0)) != SCHEMA:
        raise WhetstoneError(
            f"The memory in {folder} has the layout {made.get('schema')}, this version needs {SCHEMA}; "
            "run `python -m agent memory rebuild` to derive it anew from the sessions."
        )
    if made.get("embedder") != embedder:
        raise WhetstoneError(
            f"The memory in {folder} was made with the embedder {made.get('embedder')!r} and this run asks for "
            f"{embedder!r}; set memory.embedder to the former, or derive it anew with `python -m agent memory rebuild`."
        )


def _own_spelling(folder: Path) -> str:
    """A path to `folder` that no other client in this process uses.

    Chroma shares one engine among all clients of a path, so closing ours would leave a stale engine alive while another
    client of this process has it open. The same folder spelled with `/./` and `//` is another path to Chroma.
    """
    return str(folder) + "".join("/." if secrets.randbits(1) else "/" for _ in range(_SPELLING_BITS))
