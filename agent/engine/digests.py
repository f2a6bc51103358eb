"""Digests of model files: computed once for a file as it is on disk, then remembered in the cache folder.

A digest is the sha256 of the whole content, so that a model means the same thing on every machine. What is remembered
is keyed by path, size and modification time; touching a file makes it be read again.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import tempfile
from collections.abc import Callable
from hashlib import file_digest, sha256
from pathlib import Path

from agent.types import WhetstoneError

ROUNDED, PREFIXES = "rounded", "prefixes"
"""Folders in the cache folder with what `keep_file` keeps."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def remembered(files: list[Path], kind: str, cache: Path, compute: Callable[[], str]) -> str:
    """The digest that `compute` returned for these files as they are now, from the cache folder where it is known.

    `kind` sets apart several facts about the same files. Raises WhetstoneError if a file is gone.
    """
    try:
        state = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    except OSError as error:
        raise WhetstoneError(f"{error.filename} cannot be read ({error.strerror}): fetch the model again") from error
    key = sha256(json.dumps([kind, state]).encode()).hexdigest()[:32]
    note = cache / "digests" / key
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _DIGEST.fullmatch(known := note.read_text(encoding="utf-8")):
            return known
    value = compute()
    # A cache folder that cannot be written to costs time at each start, nothing else.
    with contextlib.suppress(OSError):
        write_whole(note, value)
    return value


def content_digest(file: Path, cache: Path) -> str:
    """sha256 hex of a file's content. Raises WhetstoneError if it cannot be read."""

    def read() -> str:
        with open(file, "rb") as opened:
            return file_digest(opened, "sha256").hexdigest()

    return remembered([file], "sha256", cache, read)


def weights_digest(files: list[Path], cache: Path) -> str:
    """sha256 hex over the names and contents of a model's weight files."""
    lines = [f"{file.name} {content_digest(file, cache)}\n" for file in sorted(files)]
    return sha256("".join(lines).encode()).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file by temporary file and rename, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def forget_kept(cache: Path) -> None:
    """Delete all that `keep_file` keeps, which may be made of an adapter that was removed; a start makes it anew.

    Raises WhetstoneError for a file that cannot be deleted.
    """
    for file in [*(cache / ROUNDED).glob("*"), *(cache / PREFIXES).glob("*")]:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise WhetstoneError(f"{file} cannot be deleted ({error.strerror}): delete it yourself") from error


def keep_file(file: Path, write: Callable[[Path], object], *, newest: int) -> None:
    """Put a file in place that only spares a later start some work, and remove the older ones of its kind.

    `write` is given where to write; of the files with the same suffix in the folder the `newest` that were changed or
    touched last stay. Where nothing can be written, nothing is kept.
    """
    temporary = file.with_name(f".{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(file)
        for old in sorted(file.parent.glob(f"*{file.suffix}"), key=lambda each: -each.stat().st_mtime)[newest:]:
            old.unlink(missing_ok=True)
    except Exception:  # a full disk shows as a SafetensorError or an OSError
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
