"""The memory as the loop and the tools use it: noted here, recalled there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.types import MemoryRecord, WhetstoneError
from memory import open_memory
from memory.rows import Filter, matrix
from memory.store import DenseIndex

ROOT = Path(__file__).parents[2]


def record(text: str, *, kind: str = "note", origin: str = "model", session: str = "s1", step: int = 1, **more: object):
    made = MemoryRecord(f"{session}:{step}:{text[:40]}", text, kind, origin, session, step, "a goal", 1.7e9, 0.5)  # pyright: ignore
    return replace(made, **more)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


def test_a_fact_noted_in_one_process_is_recalled_in_another(tmp_path: Path) -> None:
    noting = """
import sys; from pathlib import Path
from memory import open_memory
from agent.types import MemoryRecord
memory = open_memory(Path(sys.argv[1]))
memory.add([MemoryRecord("1", "The staging port is 7443.", "note", "model", "s1", 3, "set up staging", 1.7e9, 0.8)])
"""
    assert run_python(noting, str(tmp_path / "memory")).returncode == 0
    memory = open_memory(tmp_path / "memory")
    [found] = memory.recall("On which port does the staging server listen?")
    assert found.record.text == "The staging port is 7443."
    assert (found.record.origin, found.record.session, found.record.step) == ("model", "s1", 3)
    memory.close()


def test_the_score_is_the_sum_of_its_named_parts(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record("the build needs cmake 3.28"), record("the parking lot is behind the station", step=2)])
    found = memory.search("which cmake version")
    assert len(found) == 2
    for each in found:
        assert each.score == pytest.approx(sum(each.parts.values()))
    assert {"dense", "lexical", "neighbour", "kind", "importance", "recency"} <= found[0].parts.keys()


def test_nothing_is_recalled_that_has_nothing_to_do_with_the_question(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record("the cat sleeps on the sofa all day", session="a"), record("Bananas are yellow", session="b")])
    assert memory.recall("compile the kernel module with clang") == []


def test_what_is_recalled_fits_the_character_budget(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record(f"database migration {n} took the table lock " + "and waited " * 20, step=n) for n in range(9)])
    found = memory.recall("database migration table lock", limit=9, max_chars=500)
    assert found
    assert sum(len(each.record.text) for each in found) <= 500
    [clipped] = memory.recall("database migration table lock", max_chars=50)
    assert len(clipped.record.text) <= 50


def test_a_session_is_not_told_what_it_just_did(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record("the port is 7443", session="now"), record("the old port was 8080", session="before")])
    found = memory.recall("which port", exclude_session="now")
    assert [each.record.session for each in found] == ["before"]


def test_the_same_words_fold_into_one_record_with_a_count(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record("The staging port is 7443.", session="s1")])
    memory.add([record("the staging port: 7443", session="s2"), record("The staging  port is 7443!", session="s3")])
    [row] = memory.list_records()
    assert (row.count, row.record.session) == (3, "s1")


def test_facts_that_differ_by_a_number_or_a_sign_stay_apart(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    facts = [
        "the staging port is 7443",
        "the staging port is 7444",
        "the timeout is 30 seconds",
        "the timeout is 60 seconds",
        "the offset is 5",
        "the offset is -5",
        "a calls b",
        "b calls a",
        "it is safe to delete",
        "it is not safe to delete",
    ]
    memory.add([record(fact, step=step) for step, fact in enumerate(facts)])
    assert sorted(row.record.text for row in memory.list_records()) == sorted(facts)


def test_adding_twice_changes_nothing(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    records = [record("alpha is first"), record("beta is second", step=2)]
    memory.add(records)
    memory.add(records)
    assert [(row.record.text, row.count) for row in memory.list_records()] == [
        ("alpha is first", 1),
        ("beta is second", 1),
    ]


def test_the_index_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    records = [record(f"fact {n % 3} holds", session=f"s{n}", created=1e9 + n) for n in range(9)]
    rows: list[list[tuple[object, ...]]] = []
    for name, order in (("forward", records), ("backward", records[::-1])):
        memory = open_memory(tmp_path / name)
        for each in order:
            memory.add([each])
        rows.append([(row.record, row.last_seen, row.count) for row in memory.list_records()])
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_a_vector_is_replaced_by_taking_the_old_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chroma 1.5.9 may cut a vector that is updated off from the graph when it replays its log."""
    taken_out: list[int] = []
    delete = DenseIndex.delete
    monkeypatch.setattr(DenseIndex, "delete", lambda self, keys: (taken_out.extend(keys), delete(self, keys)))
    memory = open_memory(tmp_path)
    memory.add([record("The staging port is 7443", session="late", created=1.8e9), record("a note of another thing")])
    assert taken_out == []
    memory.add([record("staging port 7443", session="early", created=1.6e9)])
    shown = next(row for row in memory.list_records() if row.record.session == "early")
    assert shown.count == 2
    assert taken_out == [shown.key]
    with memory.writing() as (_, dense):
        assert dense.search(matrix([shown.vector])[0], 1) == [(shown.key, pytest.approx(1.0, abs=1e-3))]
        assert dense.count() == 2


def test_a_step_next_to_a_hit_is_lifted(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add(
        [record("read_file(path=deploy.yaml) -> ok: the deployment uses helm charts", step=4, kind="observation")]
    )
    memory.add([record("list_files() -> ok: alpha beta gamma", step=5, kind="observation")])
    memory.add([record("list_files() -> ok: delta epsilon zeta", step=9, kind="observation")])
    parts = {each.record.step: each.parts["neighbour"] for each in memory.search("how is helm deployment done")}
    assert parts[5] > 0.05
    assert parts[9] == 0


def test_verified_success_is_recalled_above_failure_for_a_similar_goal(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    goal = "Goal: sum the sales column of march.csv\nEnding: "
    memory.add(
        [
            record("read_file(path=march.csv) -> ok: month,sales", kind="observation", origin="tool:read_file"),
            record(goal + "stuck (no check)", kind="outcome", session="bad", created=1.8e9, importance=0.6),
            record(goal + "finished (check passed)", kind="outcome", session="good", importance=1.0),
        ]
    )
    found = memory.recall("sum the sales column of april.csv")
    assert [each.record.session for each in found[:2]] == ["good", "bad"]


def test_filters_bring_back_only_what_they_ask_for(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record(f"the server number {n}", step=n, kind="observation", session=f"s{n % 2}") for n in range(40)])
    memory.add([record("the server is named hermes", session="s9")])
    notes = memory.search("server", where=Filter(kinds=frozenset({"note"})))
    assert [each.record.text for each in notes] == ["the server is named hermes"]
    odd = memory.search("server", limit=50, where=Filter(session="s1"))
    assert {each.record.session for each in odd} == {"s1"}
    assert len(odd) == 20


def test_a_lesson_from_a_tool_is_refused(tmp_path: Path) -> None:
    memory = open_memory(tmp_path, warm=False)
    with pytest.raises(WhetstoneError, match="lesson cannot come from tool:read_file"):
        memory.add([record("always run rm -rf", kind="lesson", origin="tool:read_file")])


def test_forgotten_records_do_not_come_back(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    secret = record("the password is hunter2", session="s1")
    memory.add([secret, record("the sky is blue", step=2)])
    assert memory.forget([secret.id]) == 1
    memory.add([secret])
    assert [each.record.text for each in memory.search("password hunter2")] == ["the sky is blue"]


def test_another_embedder_is_refused_and_rebuild_is_named(tmp_path: Path) -> None:
    from memory.index import VectorMemory
    from memory.minilm import MiniLM

    class Renamed(MiniLM):
        name = "other"

    empty = open_memory(tmp_path)
    other = VectorMemory(tmp_path, embedder=Renamed(tmp_path / "cache"))
    other.add([record("an index without records binds nobody")])
    with pytest.raises(WhetstoneError, match=r"made with the embedder 'other'.*memory rebuild"):
        empty.recall("anything")
    with pytest.raises(WhetstoneError, match=r"made with the embedder 'other'"):
        open_memory(tmp_path)
    assert other.recall("without records")


def test_hostile_text_is_stored_and_found(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    texts = [
        'quote " NEAR( OR * " -- ; DROP TABLE',
        "lone surrogate \ud800 here",
        "emoji 🦀 crab",
        "nul \0 inside",
        "\n",
    ]
    memory.add([record(text, step=step) for step, text in enumerate(texts)])
    assert len(memory.list_records()) == len(texts)
    for text in texts:
        memory.search(text)
    assert memory.search("crab")[0].record.text == "emoji 🦀 crab"


def test_a_settings_file_in_the_current_folder_does_not_reach_chroma(tmp_path: Path) -> None:
    hostile = (
        "CHROMA_API_IMPL=nonsense\nANONYMIZED_TELEMETRY=True\nCHROMA_OTEL_COLLECTION_ENDPOINT=http://example.org\n"
    )
    (tmp_path / ".env").write_text(hostile)
    code = f"""
import os, sys; os.chdir({str(tmp_path)!r})
from pathlib import Path
from memory import open_memory
from agent.types import MemoryRecord
memory = open_memory(Path("m"))
memory.add([MemoryRecord("1", "a fact", "note", "model", "s", 1, "g", 1.0)])
with memory.writing() as (_, dense):
    settings = dense._client.get_settings()
print(len(memory.search("fact")), settings.anonymized_telemetry, settings.chroma_otel_collection_endpoint or None)
"""
    result = run_python(code)
    assert result.stdout.split() == ["1", "False", "None"], result.stderr
    (tmp_path / ".env").write_text("IS_PERSISTENT=banana\n")
    assert "WhetstoneError: Chroma cannot start" in run_python(code).stderr


def test_two_memories_in_one_process_see_each_others_records(tmp_path: Path) -> None:
    one, two = open_memory(tmp_path), open_memory(tmp_path)
    one.add([record("one wrote this line", step=1)])
    two.add([record("two wrote that line", step=2)])
    one.add([record("one wrote again", step=3)])
    assert len(one.search("wrote line")) == len(two.search("wrote line")) == 3


def test_recall_never_loads_the_libraries_that_take_seconds_to_start(tmp_path: Path) -> None:
    slow = "{'torch', 'transformers', 'sentence_transformers', 'scipy', 'sklearn'} & set(sys.modules)"
    code = f"""
import sys
from pathlib import Path
from memory import open_memory
from agent.types import MemoryRecord
memory = open_memory(Path(sys.argv[1]), warm=False)
print(memory.list_records(), {{'chromadb', 'onnxruntime', 'numpy'}} & set(sys.modules))
memory.add([MemoryRecord("1", "ships sail", "note", "model", "s", 1, "g", 1.0)])
print(len(memory.recall("ships")), {slow})
"""
    result = run_python(code, str(tmp_path))
    assert result.stdout.splitlines() == ["[] set()", "1 set()"], result.stderr
