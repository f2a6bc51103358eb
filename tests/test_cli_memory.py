"""The commands on memory, and memory across sessions, through the real command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from memory.embed import default_cache
from tests.command import Place, Ran, act

NOTE = "the staging port is 7443"
ON = ("-c", "memory.enabled=true", "-c", f"paths.cache={default_cache()}")


def memory(place: Place, *arguments: str) -> Ran:
    return place.call(*ON, "memory", *arguments)


def lines(ran: Ran) -> list[dict[str, Any]]:
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def remember(place: Place, text: str) -> None:
    place.script([act("remember", text=text), act("finish", answer="noted")])
    done = place.call(*ON, "--yes", "--goal", f"remember that {text}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A memory with two notes of two sessions and a document."""
    place = Place(tmp_path_factory.mktemp("filled"))
    remember(place, NOTE)
    remember(place, "invoices are in the blue folder")
    (place.folder / "guide.md").write_text("# Deploying\n\nNever deploy on a Friday: the roll-back needs a person.\n")
    assert memory(place, "add", "guide.md").returncode == 0
    return place


def test_a_fact_of_one_session_is_used_in_another_process_with_its_origin_and_not_without_memory(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, [act("remember", text=NOTE), act("finish", answer="noted")])
    told = place.run(*ON, "--yes", "--goal", f"remember that {NOTE}")
    assert told.returncode == 0, told.stderr
    place.script([act("finish", answer="7443")])
    question = ("--yes", "--goal", "Which port does staging listen on?")
    asked = place.run(*ON, "--json", *question)
    events = [json.loads(line) for line in asked.stdout.splitlines()]
    (recall,) = [event for event in events if event["event"] == "recall"]
    record = next(record for record in recall["records"] if record["text"] == NOTE)
    assert (record["kind"], record["origin"], record["step"]) == ("note", "model", 1)
    assert record["session"] == place.sessions[0].stem
    assert record["score"] == pytest.approx(sum(record["parts"].values()))
    prompt = place.call("show", "--prompt", "1").stdout
    assert f'[note from model, just now] "{NOTE}"' in prompt
    assert "recalled note (model, session" in place.run(*ON, *question).stderr
    without = place.run("--no-memory", "--json", *question)
    assert without.returncode == 0, without.stderr
    assert '"recall"' not in without.stdout
    assert "7443" not in place.call("show", "--prompt", "1").stdout


def test_search_tells_what_each_part_of_the_score_is_worth(filled: Place) -> None:
    shown = memory(filled, "search", "which port does staging use?")
    assert shown.returncode == 0, shown.stderr
    assert NOTE in shown.stdout
    assert "note by model in session" in shown.stdout
    assert " = dense 0." in shown.stdout
    best = lines(memory(filled, "search", "which port does staging use?", "--json", "--kind", "note"))[0]
    assert (best["text"], best["trust"]) == (NOTE, "model")
    assert best["score"] == pytest.approx(sum(best["parts"].values()))


def test_a_document_answers_with_file_and_line_and_is_indexed_once(filled: Place) -> None:
    best = lines(memory(filled, "search", "on which weekday are releases forbidden?", "--kind", "document", "--json"))
    assert best[0]["text"].startswith(f"{filled.folder / 'guide.md'}:1-3\n")
    assert "0 file(s) indexed in 0 passages, 1 unchanged, 0 left out" in memory(filled, "add", "guide.md").stdout
    assert lines(memory(filled, "list", "--documents", "--json")) == [{"path": str(filled.folder / "guide.md")}]


def test_list_shows_the_newest_first_and_says_how_many_there_are(filled: Place) -> None:
    notes = lines(memory(filled, "list", "--kind", "note", "--json"))
    assert [note["text"] for note in notes] == ["invoices are in the blue folder", NOTE]
    newest = memory(filled, "list", "--kind", "note", "--limit", "1")
    assert "1 of 2 such records" in newest.stderr
    assert "blue folder" in newest.stdout
    of_session = lines(memory(filled, "list", "--session", notes[1]["session"], "--json"))
    assert {row["kind"] for row in of_session} == {"note", "outcome"}


def test_stats_export_and_verify_agree_on_what_is_there(filled: Place, tmp_path: Path) -> None:
    (stats,) = lines(memory(filled, "stats", "--json"))
    assert stats["kinds"] == {"note": 2, "outcome": 2, "document": 1}
    assert (stats["sessions"], stats["documents"]) == (2, 1)
    assert "embedder   minilm" in memory(filled, "stats").stdout
    assert memory(filled, "export", "-o", str(tmp_path / "all.jsonl")).returncode == 0
    exported = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert exported == lines(memory(filled, "export"))
    assert len(exported) == stats["records"]
    assert "5 records, each as the journals and documents say" in memory(filled, "verify").stdout


def test_verify_names_what_no_journal_says_and_rebuild_mends_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    remember(place, NOTE)
    remember(place, "this session is going to be removed")
    max(place.sessions, key=lambda path: path.stat().st_mtime_ns).unlink()  # ids of one second are in no order
    compared = memory(place, "verify")
    assert compared.returncode == 1
    assert "2 in no journal or document" in compared.stdout
    rebuilt = memory(place, "rebuild")
    assert (rebuilt.returncode, rebuilt.stderr) == (0, "2 records\n")
    assert lines(memory(place, "verify", "--json"))[0]["ok"] is True
    assert NOTE in memory(place, "search", "staging port").stdout


def test_what_is_forgotten_stays_away_from_a_rebuild(tmp_path: Path) -> None:
    place = Place(tmp_path)
    remember(place, NOTE)
    (place.folder / "a.txt").write_text("a document about apples")
    memory(place, "add", "a.txt")
    note = next(row for row in lines(memory(place, "list", "--json")) if row["kind"] == "note")
    assert memory(place, "forget", note["id"][:8]).returncode == 0
    assert memory(place, "forget", "--document", "a.txt").returncode == 0
    assert memory(place, "rebuild").returncode == 0
    assert {row["kind"] for row in lines(memory(place, "list", "--json"))} == {"outcome"}
    assert memory(place, "forget", "--session", note["session"]).returncode == 0
    assert "is empty" in memory(place, "list").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["add"], 2, "Name the files or folders"),
        (["add", "nowhere.txt"], 1, "There is no file nowhere.txt"),
        (["add", "guide.md", "nowhere.txt"], 1, "There is no file nowhere.txt"),
        (["add", "binary.dat"], 1, "binary.dat is not a UTF-8 text file"),
        (["add", "binaries"], 1, "there is no text file in binaries"),
        (["forget"], 2, "Say what to forget"),
        (["forget", "zzz"], 1, "No record has an id that begins with 'zzz'"),
        (["forget", "--session", "s0"], 2, "no record of the session s0"),
        (["forget", "--document", "x.txt"], 2, "x.txt is not among the documents"),
        (["list", "--kind", "dream"], 2, "There is no kind 'dream': use observation, outcome"),
        (["search", " "], 2, "The query is empty"),
        (["search", "port", "-c", "memory.embedder=other"], 1, "made with the embedder 'minilm'"),
        (["add", "new.txt", "-c", "memory.embedder=other"], 1, "made with the embedder 'minilm'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(filled: Place, arguments: list[str], code: int, sentence: str) -> None:
    (filled.folder / "binary.dat").write_bytes(b"\x00\x01\xff")
    (filled.folder / "binaries").mkdir(exist_ok=True)
    (filled.folder / "binaries" / "a.bin").write_bytes(b"\x00")
    (filled.folder / "new.txt").write_text("something new")
    before = memory(filled, "export").stdout
    refused = memory(filled, *arguments)
    assert refused.returncode == code, refused.stderr
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert memory(filled, "export").stdout == before


@pytest.mark.parametrize("command", [["list"], ["search", "port"], ["stats"], ["export"], ["forget", "abc"]])
def test_an_empty_memory_is_said_and_not_made(tmp_path: Path, command: list[str]) -> None:
    place = Place(tmp_path)
    refused = memory(place, *command)
    assert refused.returncode == 1
    assert "is empty: sessions fill it as they run" in refused.stderr
    assert not (tmp_path / "home/.local/share/whetstone/memory").exists()


def test_a_memory_that_another_process_holds_is_said(filled: Place) -> None:
    (filled.folder / "new.txt").write_text("plums and cherries")
    with (filled.folder.parent / "home/.local/share/whetstone/memory/lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = memory(filled, "add", "new.txt")
    assert refused.returncode == 1
    assert "is in use by process" in refused.stderr


def test_a_progress_bar_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.folder / "a.txt").write_text("apples and pears")
    piped = place.run(*ON, "memory", "add", "a.txt")
    assert (piped.returncode, piped.stderr) == (0, "")
    (place.folder / "a.txt").write_text("plums")
    reader, terminal = pty.openpty()
    watched = subprocess.Popen(
        place.argv(*ON, "memory", "add", "a.txt"),
        cwd=place.folder,
        env=place.env | {"PYTHONFAULTHANDLER": "1"},
        stderr=terminal,
        stdout=subprocess.DEVNULL,
    )
    os.close(terminal)
    hung = threading.Timer(100, watched.send_signal, [signal.SIGABRT])  # and then it shows where each thread is
    hung.daemon = True
    hung.start()
    seen = b""
    try:
        while chunk := os.read(reader, 4096):
            seen += chunk
    except OSError:  # the terminal closed
        pass
    assert watched.wait(60) == 0, seen.decode()
    hung.cancel()
    os.close(reader)
    assert b"indexing" in seen
    assert b"1/1" in seen
