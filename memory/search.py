"""One query against the index: nearest vectors, best words, the neighbours of the hits, and the ranking of all."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.types import MemoryKind, MemoryRecord, Recalled
from memory import lexical
from memory.catalogue import Catalogue
from memory.recall import Candidate, rank
from memory.rows import Filter, matrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory.index import VectorMemory

RELEVANT: Mapping[MemoryKind, float] = {
    "note": 0.2, "document": 0.2, "lesson": 0.2, "observation": 0.35, "outcome": 0.35,
}  # fmt: skip
"""Cosine below which a record is not shown to the model, unless it covers a third of the query's words: unrelated
sentences stay under 0.2, but so does a long passage of which one sentence answers. What was done for another goal must
be closer: two goals of any kind are alike by 0.2 to 0.33, and a small model does again what it is shown."""
_COVERED = 1 / 3
_CANDIDATES = 50
_NEIGHBOURED_HITS = 10
_EXACT_LIMIT = 6000
"""Up to this many records that meet a filter are compared one by one, where Chroma would have to be asked for too many.
One comparison takes half the time of one more neighbour of Chroma's."""
FEW = 1000
"""Up to this many records in all are compared one by one too: as quick, and Chroma need not be started for it, which
takes longer than all else of a first recall."""
_MOST_ASKED = 2000
"""So many neighbours are asked of Chroma at most, where a filter will throw some of them away."""


def search(
    memory: VectorMemory,
    query: str,
    *,
    limit: int,
    where: Filter,
    max_chars: int | None = None,
    relevant: Mapping[MemoryKind, float] | None = None,
) -> list[Recalled]:
    """The best records that meet the filter, best first; without `max_chars` however long they are.

    `relevant` is the cosine a record of each kind must have, unless it shares many words or stands next to one that is
    good enough.
    """
    query = query.encode("utf-8", "replace").decode()
    if not query.strip() or limit <= 0:
        return []
    wanted = max(_CANDIDATES, limit)
    embedder = memory.embedder()
    with memory.reading() as catalogue, ThreadPoolExecutor(1) as beside_us:
        embedding = beside_us.submit(embedder.embed, [query])
        own = len(_excluded(catalogue, where))
        covered = lexical.search(catalogue.connection, query, *replace(where, exclude_session=None).sql())
        wordy = heapq.nlargest(wanted + own, covered, key=covered.__getitem__)
        vector = embedding.result()[0]
    nearest = dense_search(memory, vector, wanted, where)
    with memory.reading() as catalogue:
        keys = list(dict.fromkeys([*(key for key, _ in nearest), *catalogue.meeting(where, wordy)]))
        found = matches(catalogue, keys, vector, covered)
        hits = found[:_NEIGHBOURED_HITS]
        beside = _beside(catalogue, hits)
        others = catalogue.meeting(where, list(beside.keys() - set(keys)))
        found += matches(catalogue, others, vector, covered)
        good = {
            c.place.key
            for c in found
            if relevant is None or c.cosine >= relevant[c.place.kind] or c.coverage >= _COVERED
        }
        near = good.intersection(hit.place.key for hit in hits)
        kept = [c for c in found if c.place.key in good or near.intersection(beside.get(c.place.key, ()))]
        if not kept:
            return []
        vectors = dict(zip((c.place.key for c in kept), matrix([c.place.vector for c in kept]), strict=True))
        best = rank(kept, beside, vectors, now=time.time(), limit=limit, max_chars=max_chars)
        rows = catalogue.rows(list(best))
    return [
        Recalled(_cut(rows[key].record, max_chars), sum(parts.values()), parts)
        for key, parts in best.items()
        if key in rows
    ]


def _cut(record: MemoryRecord, max_chars: int | None) -> MemoryRecord:
    if max_chars is None or len(record.text) <= max_chars:
        return record
    return replace(record, text=record.text[: max_chars - 1] + "…" if max_chars > 0 else "")


def dense_search(
    memory: VectorMemory, vector: NDArray[np.float32], limit: int, where: Filter
) -> list[tuple[int, float]]:
    """Keys and cosines of the nearest records that meet the filter, best first.

    Chroma's own filters take 100 ms and more at 100,000 records. So where few records meet the filter they are compared
    one by one, and where many do, more neighbours are asked for and the others thrown away.
    """
    wanted = limit
    with memory.reading() as catalogue:
        total = lexical.totals(catalogue.connection)[0]
        if total <= FEW:
            return _exact(catalogue, vector, where, limit)
        if where != Filter():
            if where.kinds is None and where.session is None:
                wanted = limit + len(_excluded(catalogue, where))
            else:
                meeting = catalogue.count(where)
                wanted = 3 * limit * total // (2 * max(meeting, 1))
                if meeting <= 2 * wanted or (wanted > _MOST_ASKED and meeting <= _EXACT_LIMIT):
                    return _exact(catalogue, vector, where, limit)
                wanted = min(_MOST_ASKED, wanted)
    with memory.writing() as (_, dense):
        found = dense.search(vector, wanted)
    if where != Filter():
        with memory.reading() as catalogue:
            allowed = set(catalogue.meeting(where, [key for key, _ in found]))
        found = [(key, cosine) for key, cosine in found if key in allowed]
    return found[:limit]


def _excluded(catalogue: Catalogue, where: Filter) -> list[int]:
    if where.exclude_session is None:
        return []
    return catalogue.keys(Filter(session=where.exclude_session), _MOST_ASKED)


def _exact(catalogue: Catalogue, vector: NDArray[np.float32], where: Filter, limit: int) -> list[tuple[int, float]]:
    scored = [
        pair
        for batch, vectors in catalogue.vectors(where=where)
        for pair in zip(batch, (vectors @ vector).tolist(), strict=True)
    ]
    return sorted(scored, key=lambda pair: -pair[1])[:limit]


def matches(
    catalogue: Catalogue, keys: Sequence[int], vector: NDArray[np.float32], covered: Mapping[int, float]
) -> list[Candidate]:
    """Both scores for each record, whichever search found it; what matches best by the two together comes first."""
    places = catalogue.places(keys)
    if not places:
        return []
    cosines = matrix([place.vector for place in places]) @ vector
    found = [
        Candidate.of(place, cosine, covered.get(place.key, 0.0))
        for place, cosine in zip(places, cosines.tolist(), strict=True)
    ]
    return sorted(found, key=lambda each: -each.dense - each.lexical)


def _beside(catalogue: Catalogue, hits: Sequence[Candidate]) -> dict[int, list[int]]:
    """For each record one step away from a hit, the keys of those hits."""
    beside: dict[int, list[int]] = {}
    for hit in hits:
        for key in catalogue.neighbours(hit.place.session, hit.place.step):
            if key != hit.place.key:
                beside.setdefault(key, []).append(hit.place.key)
    return beside
