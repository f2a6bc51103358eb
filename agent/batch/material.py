"""What the source folder of a goal holds, as one digest: a row whose material was edited is another row."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


def tree_digest(folder: Path) -> str:
    """sha256 hex over the names, kinds and contents of all that is in `folder`; links count by what they say.

    Costs one read of what every goal copies anyway. What cannot be read counts as that, and what is no file (a socket,
    a pipe) by its name alone: copying the folder says what is wrong with it.
    """
    found: list[list[str]] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: found.append([str(error.filename), "unread"])):
        for name in folders + files:
            path = Path(parent, name)
            found.append([path.relative_to(folder).as_posix(), *_described(path)])
    # A name may be bytes that are no text; as JSON that is still one spelling for each.
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


def _described(path: Path) -> tuple[str, ...]:
    """Kind and content."""
    try:
        if path.is_symlink():
            return "link", str(path.readlink())
        if path.is_dir():
            return ("folder",)
        if not path.is_file():
            return ("other",)
        with path.open("rb") as file:
            return "file", hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ("unread",)
