"""From candidates to an answer: how the dense and lexical score, the place, kind and age of a record add up.

A score is the sum of its named parts. The first two decide; the others are smaller than what separates a good match
from a poor one, because measurement says so: recency at equal weight cut recall@10 from .42 to .06 on a set of long
conversations, while the neighbours of a hit lifted it from .67 to .74.

The two are fused as they are, cosine and coverage of the query's words, and not by rank or stretched to one range:
which of them can be trusted differs from query to query, and shows in their size. The constants were chosen on
fourteen sets, from questions that share no word with their answer to error codes that no embedding tells apart (see
`docs/memory.md`).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.types import MemoryKind, Recalled
from memory.catalogue import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DENSE_WEIGHT = 0.7
_LEXICAL_WEIGHT = 0.3
_NEIGHBOUR_WEIGHT = 0.3
_IMPORTANCE_WEIGHT = 0.04
_RECENCY_WEIGHT = 0.005
_HALF_LIFE_SECONDS = 30 * 86400.0
_KIND_BONUS: Mapping[MemoryKind, float] = {
    "outcome": 0.03,
    "lesson": 0.03,
    "note": 0.03,
    "observation": 0.0,
    "document": 0.0,
}
_REDUNDANCY_WEIGHT = 0.05
_ALIKE = 0.95
"""Cosine above which two records begin to count as saying the same."""


@dataclass(frozen=True)
class Candidate:
    """A record that one of the searches found, or a neighbour of one."""

    row: Row
    cosine: float
    coverage: float
    """How much of the query's words it has, 0 to 1 (`memory.lexical.search`)."""

    @property
    def match(self) -> tuple[float, float]:
        """The dense and the lexical part of the score. Half the words are worth an eighth of all of them."""
        return _DENSE_WEIGHT * max(0.0, self.cosine), _LEXICAL_WEIGHT * self.coverage**3


def rank(
    candidates: Sequence[Candidate],
    neighbours: Mapping[int, Sequence[int]],
    vectors: Mapping[int, NDArray[np.float32]],
    *,
    now: float,
    limit: int,
    max_chars: int | None = None,
) -> list[Recalled]:
    """The best `limit` of the candidates, best first, in at most `max_chars` of text.

    `neighbours` gives for a key the keys one step away from it. `vectors` (unit length, [dimensions]) serve to push a
    record down that says what a better one says already (maximal marginal relevance, Carbonell and Goldstein 1998).
    """
    matches = {c.row.key: c.match for c in candidates}
    scored = {c.row.key: (c.row, _parts(c.row, matches, neighbours.get(c.row.key, ()), now)) for c in candidates}
    totals = {key: sum(parts.values()) for key, (_, parts) in scored.items()}
    # Redundancy moves a record by little, so what stands far below the last place cannot reach it.
    totals = {key: totals[key] for key in heapq.nlargest(4 * limit + 20, totals, key=totals.__getitem__)}
    penalty = dict.fromkeys(scored, 0.0)
    result: list[Recalled] = []
    room = max_chars
    while totals and len(result) < limit:
        key = max(totals, key=lambda k: (totals[k] - penalty[k], scored[k][0].last_seen, k))
        del totals[key]
        row, parts = scored[key]
        if penalty[key]:
            parts["redundancy"] = -penalty[key]
        record = row.record
        if room is not None:
            if len(record.text) > room and not result:
                record = replace(record, text=record.text[: max(room - 1, 0)] + "…" if room else "")
            if len(record.text) > room:
                continue
            room -= len(record.text)
        result.append(Recalled(record, sum(parts.values()), parts))
        for other in totals:
            alike = float(vectors[key] @ vectors[other])
            redundancy = _REDUNDANCY_WEIGHT * max(0.0, alike - _ALIKE) / (1 - _ALIKE)
            penalty[other] = max(penalty[other], redundancy)
    return result


def _parts(
    row: Row, matches: Mapping[int, tuple[float, float]], neighbours: Sequence[int], now: float
) -> dict[str, float]:
    dense, lexical = matches[row.key]
    beside = max((sum(matches[key]) for key in neighbours if key in matches), default=0.0)
    age = max(0.0, now - row.last_seen)
    return {
        "dense": dense,
        "lexical": lexical,
        "neighbour": _NEIGHBOUR_WEIGHT * beside,
        "kind": _KIND_BONUS[row.record.kind],
        "importance": _IMPORTANCE_WEIGHT * row.record.importance,
        "recency": _RECENCY_WEIGHT * 0.5 ** (age / _HALF_LIFE_SECONDS),
    }
