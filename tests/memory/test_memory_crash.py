"""Kills, full disks and several processes at once end in data kept or in one clear sentence."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_sessions import many_sessions

from agent.types import MemoryRecord, WhetstoneError
from memory import open_memory, rebuild, verify
from memory.index import VectorMemory
from memory.record import derive

FOLDERS = f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"

WRITE_ALL = """
import sys
from pathlib import Path
from made_sessions import many_sessions
from memory import open_memory
from memory.record import derive
memory = open_memory(Path(sys.argv[1]), lock_seconds=60)
with memory.writing():
    pass
print("ready", flush=True)
for events in many_sessions(int(sys.argv[2])):
    for record in derive(events):
        memory.add([record])
        print(record.id, flush=True)
"""

HOLD = """
import sys, time
from pathlib import Path
from memory import open_memory
memory = open_memory(Path(sys.argv[1]), warm=False)
with memory.turn():
    print("held", flush=True)
    time.sleep(60)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": FOLDERS}
    )


def kill_while_it_writes(folder: Path, kills: int, seed: int) -> None:
    """Each writer begins again from the first session, as a resumed batch does, and is killed at a random moment."""
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    for _ in range(kills):
        writer = start(WRITE_ALL, folder, 400)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n", writer.communicate()[1]
        time.sleep(chance.uniform(0.0, 1.5))
        writer.send_signal(signal.SIGKILL)
        lines = writer.communicate()[0].splitlines()
        acknowledged.update(line for line in lines if len(line) == 24)
        memory = open_memory(folder)
        with memory.reading() as catalogue:
            assert acknowledged <= catalogue.known_ids()
        with memory.writing():  # Chroma opens, and is filled again where it must be
            pass
        memory.search("sum the amounts")
        memory.close()
    assert acknowledged, "no writer got as far as one record"
    with open_memory(folder).reading() as catalogue:
        written = catalogue.known_ids()
    whole = [events for events in many_sessions(400) if written.issuperset(r.id for r in derive(events))]
    rest = [r for events in many_sessions(len(whole) + 1) for r in derive(events)]
    open_memory(folder).add(rest)
    found = verify(folder, many_sessions(len(whole) + 1))
    assert found.ok, found


def test_a_kill_during_writes_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_thirty_kills_during_writes_leave_an_index_that_equals_a_rebuild(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path / "killed", kills=30, seed=2)
    killed = open_memory(tmp_path / "killed")
    sessions = {row.record.session for row in killed.list_records()}
    rebuild(tmp_path / "again", many_sessions(max(int(s[1:]) for s in sessions) + 1))
    rows = [
        [(r.record, r.last_seen, r.count) for r in m.list_records()] for m in (killed, open_memory(tmp_path / "again"))
    ]
    assert rows[0] == rows[1]


def test_a_write_cut_between_catalogue_and_vectors_is_completed_by_the_next(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    memory.add([MemoryRecord("1", "the first is in both", "note", "model", "s", 1, "g", 1.0)])
    with memory.writing() as (catalogue, _), catalogue.transaction():
        [vector] = [row.vector for row in catalogue.rows([1]).values()]
        catalogue.insert(MemoryRecord("2", "only the catalogue has this", "note", "model", "s", 2, "g", 1.0), vector)
        catalogue.set_meta(dirty=1)
    memory.close()
    with open_memory(tmp_path).writing() as (catalogue, dense):
        assert dense.count() == catalogue.count() == 2
        assert catalogue.meta()["dirty"] == "0"


def test_several_processes_write_side_by_side_and_lose_nothing(tmp_path: Path) -> None:
    writers = [start(WRITE_ALL, tmp_path, 12) for _ in range(2)]
    for writer in writers:
        output, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
        assert output
    found = verify(tmp_path, many_sessions(12))
    assert found.ok, found


def test_who_waits_too_long_is_told_which_process_holds_the_memory(tmp_path: Path) -> None:
    open_memory(tmp_path, warm=False).list_records()
    holder = start(HOLD, tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        memory = open_memory(tmp_path, lock_seconds=0.3, warm=False)
        with pytest.raises(WhetstoneError, match=rf"in use by process {holder.pid} .*0\.3 s"):
            memory.forget(["x"])
        assert memory.list_records() == [], "reading needs no turn"
    finally:
        holder.kill()
        holder.communicate()
    assert memory.forget(["x"]) == 0, "the lock dies with its holder"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_what_was_stored_stays(small_disk: Path) -> None:
    memory = open_memory(small_disk / "memory")
    stored: list[str] = []
    with pytest.raises(WhetstoneError, match=r"free space|No space left|full") as raised:
        add_until_it_fails(memory, stored)
    assert "\n" not in str(raised.value)
    assert len(stored) > 10
    memory.close()
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    again = open_memory(small_disk / "memory")
    with again.reading() as catalogue:
        assert set(stored) <= catalogue.known_ids()
    assert again.search(f"fact 3 is {3 * 7}")[0].record.id == "3"
    again.add([MemoryRecord("later", "room again", "note", "model", "s", 1, "g", 1.0)])
    with again.writing() as (catalogue, dense):
        assert dense.count() == catalogue.count()


def add_until_it_fails(memory: VectorMemory, stored: list[str]) -> None:
    for number in range(3000):
        text = f"fact {number} is {number * 7}"
        memory.add([MemoryRecord(str(number), text, "note", "model", "s", number, "g", 1.0)])
        stored.append(str(number))
