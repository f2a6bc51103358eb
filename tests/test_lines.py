"""Files that only grow: a full disk or a crash costs the line that was being written, and no other."""

from __future__ import annotations

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.learning.adapters import LOG, Registry
from agent.learning.requests import LOG as REQUESTS
from agent.learning.requests import TrainingRequests
from agent.learning.sources import RATINGS, rate, read_ratings
from agent.lines import append_line, read_lines
from agent.types import WhetstoneError
from tests.sessions import settings_for


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """Files of this process grow no larger, as on a full disk: what fits is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [60, 0])
def test_a_line_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    file = tmp_path / "log.jsonl"
    append_line(file, {"number": 1})
    before = file.read_bytes()
    with files_of_at_most(len(before) + room), pytest.raises(WhetstoneError, match="cannot be written"):
        append_line(file, {"text": "x" * 500})
    assert file.read_bytes() == before
    append_line(file, {"number": 2})
    assert read_lines(file) == [{"number": 1}, {"number": 2}]


def test_a_torn_last_line_is_not_read_and_nothing_is_written_behind_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, ())
    torn = '{"time": 1, "event": "ra'
    registry, requests = Registry(settings.adapters_folder()), TrainingRequests(settings)
    registry.folder.mkdir(parents=True)
    for file in (registry.folder / LOG, registry.folder / REQUESTS, settings.paths.data / RATINGS):
        file.write_text(torn)
    assert (registry.history(), registry.entries(), requests.history()) == ([], [], [])
    assert read_ratings(settings.paths.data) == {}
    rate(settings.paths.data, "s1", "good")
    rate(settings.paths.data, "s2", "bad")
    requests.log("asked", number=1)
    assert read_ratings(settings.paths.data) == {"s1": "good", "s2": "bad"}
    assert [line["event"] for line in requests.history()] == ["asked"]


def test_a_damaged_line_that_others_follow_is_named(tmp_path: Path) -> None:
    (tmp_path / RATINGS).write_text('{"session": "a", "rating": "good"}\n{"session"\n')
    with pytest.raises(WhetstoneError, match=r"ratings.jsonl is damaged at line 2"):
        read_ratings(tmp_path)
