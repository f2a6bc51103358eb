"""Files of JSON lines that only grow: a line is there whole, or as if it had never been written."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.types import JSON, WhetstoneError


def append_line(path: Path, data: Mapping[str, JSON], *, then: str = "try again") -> None:
    """Add a line, durable when this returns; what a crash left of a last one is cut off first.

    Raises WhetstoneError if it cannot be written whole; the file is then as it was. `then` says what to do with room
    on the disk.
    """
    raw = json.dumps(data).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                size = path.read_bytes().rfind(b"\n") + 1
                os.ftruncate(fd, size)
            if os.write(fd, raw) != len(raw):
                os.ftruncate(fd, size)
                raise WhetstoneError(f"{path} cannot be written whole: make room on the disk and {then}")
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise WhetstoneError(
            f"{path} cannot be written ({error.strerror}): make room on the disk, or give yourself the rights to it,"
            f" and {then}"
        ) from error


def read_lines(path: Path, *, mend: str = "restore it from a backup") -> list[dict[str, Any]]:
    """All whole lines, oldest first; none where there is no file.

    Raises WhetstoneError for one that cannot be read; `mend` says what to do then.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WhetstoneError(f"{path} cannot be read ({error.strerror}): give yourself the rights to it") from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise WhetstoneError(f"{path} is damaged at line {number}: {mend}") from error
    return found
