"""The benchmark of what memory finds measures the search that is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory as command
from benchmarks.memory_quality import quality, scores

LINES: list[dict[str, Any]] = [
    {"id": "port", "session": "s1", "step": 1, "text": "The staging database listens on port 5439."},
    {"id": "code", "session": "s2", "step": 1, "text": "ERR-7741 was answered by node-3"},
    {"id": "other code", "session": "s3", "step": 1, "text": "ERR-7714 was answered by node-4"},
    {"id": "piano", "session": "s4", "step": 1, "text": "The piano stands in the hallway of the new flat."},
    {"id": "coffee", "session": "s5", "step": 1, "text": "The espresso machine is descaled on Fridays."},
    {"id": "beans", "session": "s5", "step": 2, "text": "Grinder: eighteen grams."},
    {"query": "who replied to ERR-7741?", "relevant": ["code"]},
    {"query": "where did the musical instrument go?", "relevant": ["piano"]},
    {"query": "how is the coffee maker looked after?", "relevant ids": ["coffee"]},
]


def test_each_way_of_searching_is_scored_by_recall_and_ndcg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    monkeypatch.setattr(sys, "argv", ["memory", "--quality", str(file)])
    command.main()
    printed = [line.rsplit(maxsplit=3) for line in capsys.readouterr().out.splitlines() if "nDCG" in line]
    arms = {line[0].split(":")[0].strip(): [float(figure) for figure in line[1:]] for line in printed}
    assert list(arms) == ["dense", "words", "fused", "recall as used"]
    assert arms["fused"] == [1.0, 1.0, 1.0]
    assert arms["words"] == [pytest.approx(1 / 3, abs=1e-3)] * 3, "two of the questions share no word with their answer"
    assert arms["fused"] >= arms["dense"]


def test_a_question_may_bring_its_own_records(tmp_path: Path) -> None:
    asked = [
        {"query": "which colour is the sky?", "relevant_ids": [1], "corpus": ["grass is green", "the sky is blue"]},
        {"query": "what is green?", "relevant": ["g"], "corpus": {"g": "grass is green", "s": "the sky is blue"}},
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in asked))
    found = quality(str(file))
    assert found["questions"] == 2
    assert found["fused: recall@5, recall@10, nDCG@10"] == "1.000  1.000  1.000"


def test_recall_counts_what_is_found_and_ndcg_how_early() -> None:
    assert scores(["a", "x", "b"], {"a", "b"}) == [1.0, 1.0, pytest.approx((1 + 0.5) / (1 + 1 / 1.58496), abs=1e-4)]
    assert scores(["x"] * 5 + ["a"], {"a"})[:2] == [0.0, 1.0]
