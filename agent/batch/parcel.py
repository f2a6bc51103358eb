"""Folders as bytes, for goals that run on a machine without our disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

MAX_BYTES = 256 * 1024**2
"""What one goal may bring home; a workspace that is larger stays where it ran."""


def pack(root: Path, paths: Iterable[Path]) -> bytes:
    """The files and folders `paths`, which lie below `root`, with all that is in them. Those that are gone are not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in paths:
            if path.exists():
                archive.add(path, path.relative_to(root).as_posix())
    return buffer.getvalue()


def unpack(parcel: bytes, root: Path) -> None:
    """Put the contents of a parcel below `root`. What would lie or lead outside it is left out. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(parcel), mode="r:gz") as archive:
        archive.extractall(root, filter=_inside)


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _inside(member: tarfile.TarInfo, root: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, root)
    except tarfile.FilterError:
        return None
