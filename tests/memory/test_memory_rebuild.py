"""The index is derived from the journals, and can always be derived again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_sessions import Step, many_sessions, session

from agent.recollection import Recollection
from agent.types import Event, MemoryRecord, WhetstoneError
from memory import derivation, open_memory, rebuild, verify
from memory.documents import Documents
from memory.index import VectorMemory
from memory.ledger import Ledger
from memory.record import derive
from memory.rows import Filter


def fill(folder: Path, sessions: list[list[Event]]) -> VectorMemory:
    memory = open_memory(folder)
    for events in sessions:
        memory.add(derive(events))
    return memory


def shown(memory: VectorMemory) -> list[tuple[object, ...]]:
    return [(row.record, row.last_seen, row.count) for row in memory.list_records()]


def test_a_rebuild_gives_the_same_records_and_the_same_answers(tmp_path: Path) -> None:
    sessions = list(many_sessions(12))
    live = fill(tmp_path / "live", sessions)
    rebuilt = rebuild(tmp_path / "again", reversed(sessions))
    again = open_memory(tmp_path / "again")
    assert rebuilt.records == len(live.list_records())
    assert shown(again) == shown(live)
    for query in ("total of run 3", "which literal was bad", "sum the amounts of file 2"):
        ours, theirs = live.search(query), again.search(query)
        assert [r.record.id for r in ours] == [r.record.id for r in theirs]
        assert [r.score for r in ours] == pytest.approx([r.score for r in theirs], abs=1e-4)


def test_verify_agrees_with_an_index_that_is_right(tmp_path: Path) -> None:
    sessions = list(many_sessions(5))
    fill(tmp_path, sessions).close()
    found = verify(tmp_path, sessions)
    assert found.ok
    assert found.records > 15


def test_lessons_and_quoted_errors_are_derived_again(tmp_path: Path) -> None:
    steps: list[Step] = [
        ("run_python", {"code": "import polars"}, "error", "ModuleNotFoundError: No module named 'polars'"),
        ("run_python", {"code": "import csv"}, "ok", "the total of march is 42"),
    ]
    passed = {"passed": True, "detail": ""}
    sessions = [session(f"s{n}", "sum", steps, check=passed, answer="the total of march is 42") for n in range(3)]
    memory = fill(tmp_path, sessions)
    rows = {row.record.kind: row for row in memory.list_records() if row.record.kind != "observation"}
    assert (rows["lesson"].count, rows["lesson"].record.origin) == (3, "model")
    assert (rows["outcome"].count, rows["outcome"].record.origin) == (3, "tool:run_python")
    live = shown(memory)
    assert verify(tmp_path, sessions).ok
    rebuild(tmp_path, sessions)
    assert shown(memory) == live


def test_verify_names_what_is_missing_unexpected_and_different(tmp_path: Path) -> None:
    sessions = list(many_sessions(3, steps=4))
    memory = fill(tmp_path, sessions[:2])
    stranger = MemoryRecord("stranger", "nobody said this", "note", "model", "sX", 1, "g", 1.0)
    memory.add([stranger])
    [note] = [row for row in memory.list_records() if row.record.text == "the total of run 0 is 0"]
    with memory.writing() as (catalogue, _):
        catalogue.connection.execute("UPDATE records SET text = 'the total is 7' WHERE key = ?", (note.key,))
    memory.close()
    found = verify(tmp_path, sessions)
    assert not found.ok
    assert found.unexpected == ("stranger",)
    assert found.different == (note.record.id,)
    assert note.record.id in found.wrong_vectors
    assert {r.id for r in derive(sessions[2]) if r.kind == "note"} <= set(found.missing)


def test_a_rebuild_drops_what_no_journal_says_and_keeps_forgotten_what_was_forgotten(tmp_path: Path) -> None:
    sessions = list(many_sessions(3))
    memory = fill(tmp_path, sessions)
    memory.add([MemoryRecord("stranger", "nobody said this", "note", "model", "sX", 1, "g", 1.0)])
    [note] = [row.record for row in memory.list_records() if row.record.text == "the total of run 1 is 100"]
    memory.forget([note.id])
    memory.close()
    rebuild(tmp_path, sessions)
    texts = [row.record.text for row in open_memory(tmp_path, warm=False).list_records()]
    assert "nobody said this" not in texts
    assert note.text not in texts
    assert verify(tmp_path, sessions).ok


def test_a_rebuild_carries_over_what_is_added_while_it_runs(tmp_path: Path) -> None:
    sessions = list(many_sessions(4))
    memory = fill(tmp_path, sessions[:3])

    def slowly() -> Iterator[list[Event]]:
        yield from sessions[:3]
        memory.add(derive(sessions[3]))
        memory.add([replace(derive(sessions[0])[3], id="once more", created=1.9e9)])

    rebuild(tmp_path, slowly())
    once_more = [row for row in memory.list_records() if row.last_seen == 1.9e9]
    assert [row.count for row in once_more] == [2]
    assert {r.id for r in derive(sessions[3]) if r.kind == "outcome"} <= {r.record.id for r in memory.list_records()}


def test_what_is_forgotten_while_a_rebuild_runs_stays_forgotten(tmp_path: Path) -> None:
    sessions = list(many_sessions(4))
    unheard = session("s9999", "g", [("remember", {"text": "the total of run 1 is 100"}, "ok", "noted")])
    memory = fill(tmp_path, sessions)
    again = MemoryRecord("again", "the total of run 2 is 200", "note", "model", "s5", 1, "g", 1.9e9)

    def slowly() -> Iterator[list[Event]]:
        yield from sessions
        yield unheard
        notes = {row.record.text: row.record.id for row in memory.list_records() if row.record.kind == "note"}
        memory.forget([notes["the total of run 1 is 100"], notes["the total of run 2 is 200"]])
        memory.add([again])

    rebuild(tmp_path, slowly())
    rows = memory.list_records()
    assert [row.record for row in rows if row.record.text == again.text] == [again], "said anew after it was forgotten"
    assert "the total of run 1 is 100" not in {row.record.text for row in rows}
    memory.forget(["again"])
    assert verify(tmp_path, [*sessions, unheard]).ok
    memory.add(derive(unheard))
    assert "the total of run 1 is 100" not in {row.record.text for row in memory.list_records()}


def test_documents_added_changed_and_removed_while_a_rebuild_runs_are_as_they_were_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.txt" for name in ("kept", "changed", "removed", "added")}
    for name, file in files.items():
        file.write_text(f"this file will be {name}")
    memory = open_memory(tmp_path / "memory")
    documents = Documents(memory)
    documents.add([file for name, file in files.items() if name != "added"])

    match_documents = derivation._match_documents  # pyright: ignore[reportPrivateUsage]
    calls: list[list[str]] = []

    def then_change(scratch: VectorMemory, ledger: Ledger) -> list[str]:
        missing = match_documents(scratch, ledger)
        calls.append(Documents(scratch).paths())
        if len(calls) == 1:  # the new index has the documents, and is not yet in use
            files["changed"].write_text("something else by now")
            documents.add([files["changed"], files["added"]])
            documents.remove(files["removed"])
        return missing

    monkeypatch.setattr(derivation, "_match_documents", then_change)
    rebuild(tmp_path / "memory", many_sessions(1))
    assert str(files["removed"]) in calls[0]
    rows = memory.list_records(Filter(kinds=frozenset({"document"})))
    assert sorted(row.record.text.split("\n")[1] for row in rows) == [
        "something else by now",
        "this file will be added",
        "this file will be kept",
    ]
    assert documents.paths() == sorted(str(files[name]) for name in ("kept", "changed", "added"))
    assert verify(tmp_path / "memory", many_sessions(1)).ok


def test_an_open_memory_goes_on_with_the_new_index(tmp_path: Path) -> None:
    sessions = list(many_sessions(3))
    memory = fill(tmp_path, sessions[:2])
    rebuild(tmp_path, sessions)
    assert any(each.record.session == "s0002" for each in memory.search("sum the amounts of file 2"))
    memory.add([MemoryRecord("new", "the lighthouse keeper retired", "note", "model", "s9", 1, "g", 2e9)])
    assert memory.search("lighthouse")[0].record.id == "new"
    assert len(list(tmp_path.glob("index-*"))) == 1
    assert not list(tmp_path.glob("rebuild-*"))


def test_a_rebuild_that_fails_leaves_the_old_index(tmp_path: Path) -> None:
    sessions = list(many_sessions(2))
    memory = fill(tmp_path, sessions)
    before = shown(memory)

    def broken() -> Iterator[list[Event]]:
        yield sessions[0]
        raise WhetstoneError("The journal s0001 is damaged at line 3; move it away.")

    with pytest.raises(WhetstoneError, match="damaged at line 3"):
        rebuild(tmp_path, broken())
    assert shown(memory) == before
    assert not list(tmp_path.glob("rebuild-*"))


def test_a_damaged_catalogue_names_the_rebuild_that_repairs_it(tmp_path: Path) -> None:
    sessions = list(many_sessions(2))
    fill(tmp_path, sessions).close()
    [file] = tmp_path.glob("index-*/records.sqlite3")
    for each in file.parent.glob("records.sqlite3-*"):
        each.unlink()
    file.write_bytes(b"not a database" * 1000)
    with pytest.raises(WhetstoneError, match="memory rebuild"):
        open_memory(tmp_path)
    rebuild(tmp_path, sessions)
    assert verify(tmp_path, sessions).ok


def test_damaged_vectors_are_made_again_from_the_catalogue(tmp_path: Path) -> None:
    sessions = list(many_sessions(2))
    fill(tmp_path, sessions).close()
    [chroma] = tmp_path.glob("index-*/chroma")
    for file in chroma.rglob("*"):
        if file.is_file():
            file.unlink()
    assert verify(tmp_path, sessions).ok


def test_a_rebuild_counts_as_recalled_what_the_live_run_did(tmp_path: Path) -> None:
    past = list(many_sessions(3))
    memory = fill(tmp_path / "memory", past)
    journals: list[list[Event]] = []
    for name, limit in (("asks", 3), ("asks too", 1)):
        events = session(name, "what is the total of run 1?", [("list_files", {}, "ok", "a"), ("finish", {}, "ok", "")])
        recollection = Recollection(memory, name, limit=limit, max_chars=1000, past=events[:1])
        journal = events[:1]
        for event in events[1:]:
            offered = recollection.offer("what is the total of run 1?", journal)
            journal += [Event(0, "recall", event.time, {"step": 1, **offered})] if offered else []
            journal.append(event)
            recollection.take(event)
        journals.append(journal)
    memory.recall("what is the total of run 2?")  # a tool asked: no journal says what it was shown
    live = {row.record.id: row.recalled for row in memory.list_records()}
    assert sorted(set(live.values())) == [0, 1, 2]
    rebuild(tmp_path / "memory", [*past, *journals])
    assert {row.record.id: row.recalled for row in memory.list_records()} == live


def test_what_is_recalled_while_a_rebuild_runs_is_counted(tmp_path: Path) -> None:
    sessions = list(many_sessions(2))
    memory = fill(tmp_path, sessions)

    def slowly() -> Iterator[list[Event]]:
        yield from sessions
        assert memory.recall("the total of run 1", exclude_session="runs now", limit=1)

    rebuild(tmp_path, slowly())
    assert sum(row.recalled for row in memory.list_records()) == 1


def test_a_second_rebuild_at_the_same_time_is_refused(tmp_path: Path) -> None:
    def nested() -> Iterator[list[Event]]:
        with pytest.raises(WhetstoneError, match="in use by process"):
            rebuild(tmp_path, [])
        yield from many_sessions(1)

    assert rebuild(tmp_path, nested()).records > 0


def test_a_ledger_line_that_a_crash_cut_is_passed_over(tmp_path: Path) -> None:
    memory = open_memory(tmp_path, warm=False)
    memory.ledger.append({"event": "forgotten", "ids": ["a"]})
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"event": "forgotten", "ids": ["b')
    memory.ledger.append({"event": "forgotten", "ids": ["c"]})
    assert memory.ledger.forgotten() == {"a", "c"}
    assert len([line for line in (tmp_path / "ledger.jsonl").read_text().splitlines() if line.endswith("}")]) == 2
    assert json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])["ids"] == ["c"]
