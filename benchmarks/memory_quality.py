"""What memory finds: recall and nDCG of the vectors alone, of the words alone, and of both together.

A data set is a JSONL file. It has one object a line: `{"id": ..., "text": ...}` for each record, with `session` and
`step` where records follow each other, and `{"query": ..., "relevant": [ids]}` for each question (`relevant_ids` and
`relevant ids` will do). A question may bring its own `corpus`, a list of such records, of plain texts, or an object
id -> text. Or it is the name of an installed package, whose functions' summaries are the questions and the rest of
their docstrings the records.
"""

from __future__ import annotations

import heapq
import importlib
import inspect
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import MemoryRecord
from memory import lexical, open_memory
from memory.index import VectorMemory
from memory.rows import Filter
from memory.search import dense_search, matches


def quality(name: str) -> dict[str, Any]:
    """Recall@5, recall@10 and nDCG@10 by each way of searching, on one data set."""
    figures: dict[str, list[list[float]]] = {}
    asked = 0
    for corpus, asking in corpora(Path(name)) if Path(name).is_file() else [docstrings(name)]:
        with tempfile.TemporaryDirectory() as folder:
            memory = open_memory(Path(folder))
            memory.add(corpus)
            asked += len(asking)
            for query, relevant in asking:
                for arm, found in answers(memory, query).items():
                    figures.setdefault(arm, []).append(scores(found, relevant))
            memory.close()
    summary: dict[str, Any] = {"questions": asked}
    for arm, rows in figures.items():
        summary[f"{arm}: recall@5, recall@10, nDCG@10"] = "{:.3f}  {:.3f}  {:.3f}".format(*np.mean(rows, axis=0))
    return summary


def answers(memory: VectorMemory, query: str) -> dict[str, list[str]]:
    """Ids of the ten best by each way of searching. Records that folded into one count as the one that is shown."""
    vector = memory.embedder().embed([query])[0]
    dense = dense_search(memory, vector, 50, Filter())
    with memory.reading() as catalogue:
        covered = lexical.search(catalogue.connection, query)
        wordy = heapq.nlargest(50, covered, key=covered.__getitem__)
        keys = list(dict.fromkeys([*(key for key, _ in dense), *wordy]))
        fused = [each.place.key for each in matches(catalogue, keys, vector, covered)]
        found = {"dense": [key for key, _ in dense], "words": wordy, "fused": fused}
        rows = catalogue.rows(keys)
    named = {arm: [rows[key].record.id for key in best[:10]] for arm, best in found.items()}
    return named | {"recall as used": [each.record.id for each in memory.search(query, limit=10)]}


def scores(found: Sequence[str], relevant: set[str]) -> list[float]:
    gains = [1 / math.log2(rank + 2) for rank, ident in enumerate(found) if ident in relevant]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    return [len(relevant.intersection(found[:k])) / len(relevant) for k in (5, 10)] + [sum(gains) / ideal]


def corpora(path: Path) -> Iterator[tuple[list[MemoryRecord], list[tuple[str, set[str]]]]]:
    """Each corpus of the file with the questions about it."""
    shared: list[dict[str, Any]] = []
    asked: dict[str, list[tuple[str, set[str]]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "query" in entry:
            relevant = next(entry[name] for name in ("relevant", "relevant_ids", "relevant ids") if name in entry)
            own = json.dumps(entry.get("corpus"), sort_keys=True)
            asked.setdefault(own, []).append((entry["query"], {str(ident) for ident in relevant}))
        elif "text" in entry:
            shared.append(entry)
    for own, questions_of in asked.items():
        yield [as_record(entry, place) for place, entry in enumerate(entries(json.loads(own)) or shared)], questions_of


def entries(corpus: Any) -> list[dict[str, Any]]:
    if isinstance(corpus, dict):
        return [{"id": ident, "text": text} for ident, text in corpus.items()]
    return [e if isinstance(e, dict) else {"id": place, "text": e} for place, e in enumerate(corpus or [])]


def as_record(entry: dict[str, Any], place: int) -> MemoryRecord:
    session, step = str(entry.get("session", f"record {place}")), int(entry.get("step", 0))
    return MemoryRecord(str(entry["id"]), entry["text"], "observation", "tool:read_file", session, step, "", 1e9)


def docstrings(package: str) -> tuple[list[MemoryRecord], list[tuple[str, set[str]]]]:
    """Functions and classes of a package: what the rest of a docstring says is to be found by its summary."""
    module = importlib.import_module(package)
    rest_of: dict[str, str] = {}
    for name in sorted(vars(module)):
        summary, _, rest = (inspect.getdoc(vars(module)[name]) or "").partition("\n\n")
        summary, rest = " ".join(summary.split()), " ".join(rest.split())[:600]
        if not name.startswith("_") and callable(vars(module)[name]) and len(summary) > 25 and len(rest) > 150:
            rest_of.setdefault(summary, rest)
    corpus = [as_record({"id": place, "text": rest}, place) for place, rest in enumerate(rest_of.values())]
    return corpus, [(summary, {str(place)}) for place, summary in enumerate(rest_of)]
