"""Filters over many records, and what a record loses that says what a better one says already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.types import MemoryKind, MemoryRecord
from memory import open_memory
from memory.index import VectorMemory
from memory.recall import Candidate, rank
from memory.rows import Filter, Place
from memory.search import FEW, dense_search
from memory.store import DenseIndex


class Scattered:
    """Vectors that depend on nothing but the text, all over the sphere."""

    name, dimensions = "scattered", 24

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        vectors = np.array([np.random.default_rng(seed).standard_normal(self.dimensions) for seed in seeds])
        return (vectors.reshape(len(texts), -1) / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> VectorMemory:
    """So many records that Chroma is asked: half of them observations, 20 outcomes, the rest notes; 4 sessions."""
    memory = VectorMemory(tmp_path_factory.mktemp("many"), embedder=Scattered())
    kinds: list[MemoryKind] = ["outcome" if n % 55 == 0 else "observation" if n % 2 else "note" for n in range(1100)]
    memory.add(
        MemoryRecord(f"r{n}", f"record number {n}", kind, "model", f"s{n % 4}", n, "", 1e9)
        for n, kind in enumerate(kinds)
    )
    assert len(memory.list_records()) == 1100 > FEW
    return memory


@pytest.mark.parametrize(
    ("where", "asks_chroma"),
    [
        (Filter(), True),
        (Filter(exclude_session="s1"), True),
        (Filter(kinds=frozenset({"observation"})), True),
        (Filter(kinds=frozenset({"note", "outcome"}), exclude_session="s0"), True),
        (Filter(kinds=frozenset({"outcome"})), False),
        (Filter(kinds=frozenset({"outcome"}), session="s2"), False),
        (Filter(session="nobody's"), False),
    ],
    ids=["all", "but one session", "half of them", "two filters", "few", "few of a session", "none"],
)
def test_a_filtered_search_over_many_records_finds_the_nearest_that_meet_the_filter(
    many: VectorMemory, where: Filter, asks_chroma: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    search = DenseIndex.search

    def seen(self: DenseIndex, vector: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        asked.append(limit)
        return search(self, vector, limit)

    monkeypatch.setattr(DenseIndex, "search", seen)
    with many.reading() as catalogue:
        keys, vectors = zip(*catalogue.vectors(where=where), strict=True) if catalogue.count(where) else ((), ())
    all_keys = [key for batch in keys for key in batch]
    for vector in Scattered().embed([f"question {n}" for n in range(5)]):
        cosines = np.concatenate(vectors) @ vector if vectors else np.empty(0)
        best = [all_keys[place] for place in np.argsort(-cosines)[:10]]
        found = dense_search(many, vector, 10, where)
        assert [key for key, _ in found] == best
        assert [cosine for _, cosine in found] == pytest.approx(np.sort(cosines)[::-1][:10].tolist(), abs=1e-3)
    assert bool(asked) == asks_chroma


def test_what_a_better_record_says_already_gives_way_to_something_else() -> None:
    one, other = np.eye(2, dtype=np.float32)
    near = np.array([0.995, np.sqrt(1 - 0.995**2)], np.float32)
    places = [Place(key, "note", f"s{key}", 1, 0.5, 1e9, 20, b"") for key in (1, 2, 3)]
    candidates = [Candidate.of(place, cosine, 0.0) for place, cosine in zip(places, (0.80, 0.79, 0.76), strict=True)]
    ranked = rank(candidates, {}, {1: one, 2: near, 3: other}, now=1e9, limit=3)
    assert list(ranked) == [1, 3, 2]
    assert ranked[2]["redundancy"] == pytest.approx(-0.05 * 0.9, abs=1e-3)
    assert not any("redundancy" in ranked[key] for key in (1, 3))
    apart = rank(candidates, {}, {1: one, 2: other, 3: -one}, now=1e9, limit=3)
    assert list(apart) == [1, 2, 3]


def test_a_near_repetition_is_shown_with_what_it_lost(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    texts = ["the staging port is 7443", "the staging port is 7443, they say", "the harbour is closed on Sundays"]
    memory.add(MemoryRecord(t, t, "note", "model", f"s{n}", 1, "", 1e9) for n, t in enumerate(texts))
    found = memory.search("which port has staging")
    assert [each.record.text in texts[:2] for each in found] == [True, True, False]
    assert "redundancy" not in found[0].parts
    assert found[1].parts["redundancy"] < 0
    assert found[1].score == pytest.approx(sum(found[1].parts.values()))
