"""What a person is told about a memory."""

from __future__ import annotations

import json
from pathlib import Path

from made_sessions import many_sessions

from memory import open_memory
from memory.documents import Documents
from memory.overview import export, stats
from memory.record import derive
from memory.rows import Filter


def test_stats_count_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "guide.txt").write_text("one passage")
    memory = open_memory(tmp_path / "memory")
    assert stats(memory).records == 0
    assert stats(memory).oldest is None
    derived = [record for events in many_sessions(8) for record in derive(events)]
    memory.add(derived)
    Documents(memory).add([tmp_path / "guide.txt"])
    memory.recall("the total of run 3", limit=1, exclude_session="s1")
    found = stats(memory)
    assert found.said == len(derived) + 1
    assert found.records == len(memory.list_records()) < found.said
    assert found.kinds["document"] == found.documents == 1
    assert found.kinds["note"] == 5
    assert (found.sessions, found.recalled) == (8, 1)
    assert found.bytes > 10_000


def test_export_gives_every_record_with_its_trust(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([record for events in many_sessions(3) for record in derive(events)])
    lines = [json.loads(line) for line in export(memory)]
    assert [line["id"] for line in lines] == [row.record.id for row in memory.list_records()]
    assert {line["trust"] for line in lines} == {"model", "untrusted"}
    notes = [json.loads(line) for line in export(memory, Filter(kinds=frozenset({"note"})))]
    assert {line["kind"] for line in notes} == {"note"}
