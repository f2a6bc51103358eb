"""Recall finds more than meaning alone and words alone, on questions worded differently from the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.types import MemoryRecord
from memory import lexical, open_memory
from memory.rows import Filter
from memory.search import dense_search

DATA = Path(__file__).parent / "data"


def found_of_five(folder: Path, lines: list[dict[str, Any]]) -> dict[str, float]:
    """recall@5 of the vectors alone, of the words alone, and of recall as it is used."""
    corpus = [line for line in lines if "text" in line]
    questions = [line for line in lines if "query" in line]
    assert len(questions) >= 40
    memory = open_memory(folder)
    memory.add(
        MemoryRecord(line["id"], line["text"], "observation", "model", line["session"], line["step"], "", 1e9)
        for line in corpus
    )
    ids = {row.key: row.record.id for row in memory.list_records()}
    total = dict.fromkeys(("dense", "lexical", "fused"), 0.0)
    for question in questions:
        vector = memory.embedder().embed([question["query"]])[0]
        dense = dense_search(memory, vector, 5, Filter())
        with memory.reading() as catalogue:
            covered = lexical.search(catalogue.connection, question["query"])
        answers = {
            "dense": [ids[key] for key, _ in dense],
            "lexical": [ids[key] for key in sorted(covered, key=lambda key: -covered[key])[:5]],
            "fused": [each.record.id for each in memory.search(question["query"], limit=5)],
        }
        relevant = set(question["relevant"])
        for name, answer in answers.items():
            total[name] += len(relevant.intersection(answer)) / len(relevant) / len(questions)
    return total


@pytest.mark.parametrize(
    ("name", "least"), [("workshop", 0.85), ("letters", 0.85), ("talk-1", 0.53), ("talk-2", 0.57), ("talk-3", 0.51)]
)
def test_fused_recall_is_at_least_the_better_of_dense_and_lexical(name: str, least: float, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    recall = found_of_five(tmp_path, lines)
    assert recall["fused"] >= max(recall["dense"], recall["lexical"])
    assert recall["fused"] >= least


def test_exact_names_are_found_among_records_that_all_mean_the_same(tmp_path: Path) -> None:
    places = [(node, code) for node in range(1, 21) for code in range(5)]
    corpus = [
        {"id": f"{n}-{c}", "session": f"s{n}", "step": c, "text": f"ok: ERR-{n * 37 + c * 1000} timeout at node-{n}"}
        for n, c in places
    ]
    questions = [{"query": f"what was ERR-{n * 37 + c * 1000}?", "relevant": [f"{n}-{c}"]} for n, c in places]
    recall = found_of_five(tmp_path, [*corpus, *questions])
    assert recall["fused"] >= max(recall["dense"], recall["lexical"])
    assert recall["fused"] == pytest.approx(1.0)
