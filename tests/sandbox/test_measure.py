"""Whose bytes they are: what a run wrote is told apart from what others write on the same file system."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tools.sandbox.inside.measure import Disk

MIB = 1024**2


@pytest.mark.parametrize("walked", [True, False], ids=["a run of some length", "a run over at once"])
def test_what_others_write_is_not_laid_at_the_door_of_a_run(tmp_path: Path, walked: bool) -> None:
    disk, workspace = _begun(tmp_path)
    if walked:
        disk.remember()
    _write(tmp_path / "of somebody else", 8 * MIB)
    _write(workspace / "small", MIB // 2)
    assert disk.used([], last=True) < 2 * MIB
    _write(workspace / "large", 3 * MIB)
    assert disk.used([], last=True) > 2 * MIB


def test_what_was_written_before_the_first_look_counts(tmp_path: Path) -> None:
    disk, workspace = _begun(tmp_path)
    for number in range(4):
        _write(workspace / str(number), MIB)
    disk.remember()
    assert disk.used([]) > 2 * MIB


def _begun(folder: Path) -> tuple[Disk, Path]:
    """A run that may write 2 MiB begins now, in a workspace that holds twice as much."""
    workspace = folder / "workspace"
    workspace.mkdir()
    _write(workspace / "old", 4 * MIB)
    time.sleep(0.05)  # older than the run by more than the clock of files is wrong
    return Disk(str(workspace), (), limit=2 * MIB), workspace


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())
