"""From candidates to an answer: how the dense and lexical score, the place, kind and age of a record add up.

A score is the sum of its named parts. The first two decide; the others are smaller than what separates a good match
from a poor one, because measurement says so: recency at equal weight cut recall@10 from .42 to .06 on a set of long
conversations, while the neighbours of a hit lifted it from .67 to .74.

The two are fused as they are, cosine and coverage of the query's words, and not by rank or stretched to one range:
which of them can be trusted differs from query to query, and shows in their size. The constants were chosen on
sixty-three sets, from questions that share no word with their answer to long chats, and on the same with vectors made
worse (see `docs/memory.md`).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.types import MemoryKind
from memory.rows import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DENSE_WEIGHT = 0.75
_LEXICAL_WEIGHT = 0.25
_COVERAGE_POWER = 1.75
_NEIGHBOUR_WEIGHT = 0.35
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


class Candidate(NamedTuple):
    """A record that one of the searches found, or a neighbour of one."""

    place: Place
    cosine: float
    coverage: float
    """How much of the query's words it has, 0 to 1 (`memory.lexical.search`)."""
    dense: float
    """Its part of the score."""
    lexical: float
    """Its part of the score: half the words are worth three tenths of all of them."""

    @classmethod
    def of(cls, place: Place, cosine: float, coverage: float) -> Candidate:
        dense, lexical = _DENSE_WEIGHT * max(0.0, cosine), _LEXICAL_WEIGHT * coverage**_COVERAGE_POWER
        return cls(place, cosine, coverage, dense, lexical)


def rank(
    candidates: Sequence[Candidate],
    neighbours: Mapping[int, Sequence[int]],
    vectors: Mapping[int, NDArray[np.float32]],
    *,
    now: float,
    limit: int,
    max_chars: int | None = None,
) -> dict[int, dict[str, float]]:
    """The keys of the best `limit` of the candidates, best first, each with the parts of its score by name.

    Together their texts have at most `max_chars` characters, but that the first is among them however long it is.
    `neighbours` gives for a key the keys one step away from it. `vectors` (unit length, [dimensions]) serve to push a
    record down that says what a better one says already (maximal marginal relevance, Carbonell and Goldstein 1998).
    """
    import numpy as np

    matches = {c.place.key: c.dense + c.lexical for c in candidates}
    places = {c.place.key: c.place for c in candidates}
    scored = {c.place.key: _parts(c, matches, neighbours.get(c.place.key, ()), now) for c in candidates}
    totals = {key: sum(parts.values()) for key, parts in scored.items()}
    # Redundancy moves a record by little, so what stands far below the last place cannot reach it.
    totals = {key: totals[key] for key in heapq.nlargest(4 * limit + 20, totals, key=totals.__getitem__)}
    penalty = dict.fromkeys(totals, 0.0)
    result: dict[int, dict[str, float]] = {}
    room = max_chars
    while totals and len(result) < limit:
        key = max(totals, key=lambda k: (totals[k] - penalty[k], places[k].last_seen, k))
        del totals[key]
        if room is not None:
            needed = places[key].chars if result else min(places[key].chars, room)
            if needed > room:
                continue
            room -= needed
        result[key] = scored[key]
        if penalty[key]:
            result[key]["redundancy"] = -penalty[key]
        if totals:
            others = list(totals)
            alike = np.stack([vectors[other] for other in others]) @ vectors[key]
            for other, cosine in zip(others, alike.tolist(), strict=True):
                if cosine > _ALIKE:
                    penalty[other] = max(penalty[other], _REDUNDANCY_WEIGHT * (cosine - _ALIKE) / (1 - _ALIKE))
    return result


def _parts(
    candidate: Candidate, matches: Mapping[int, float], neighbours: Sequence[int], now: float
) -> dict[str, float]:
    place = candidate.place
    return {
        "dense": candidate.dense,
        "lexical": candidate.lexical,
        "neighbour": _NEIGHBOUR_WEIGHT * max((matches.get(key, 0.0) for key in neighbours), default=0.0),
        "kind": _KIND_BONUS[place.kind],
        "importance": _IMPORTANCE_WEIGHT * place.importance,
        "recency": _RECENCY_WEIGHT * 0.5 ** (max(0.0, now - place.last_seen) / _HALF_LIFE_SECONDS),
    }
