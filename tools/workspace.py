"""The folder the agent works in, opened once; every access goes through its descriptor (`tools.dirfd`).

Paths are as a model writes them (`tools.paths`): relative, POSIX, a leading `./` ignored, and a leading `workspace/`
too where there is no such folder, because small models like to write it.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import stat
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tools import dirfd
from tools.dirfd import MAX_FILE_BYTES, Entry
from tools.paths import WorkspaceError, show_name, split_path

MAX_ENTRIES = 20_000
"""Files and folders that one walk looks at."""
MAX_COPY_BYTES = 512 * 1024**2
_MAX_SUGGESTED_FROM = 2000

Snapshot = Mapping[str, tuple[int, int, int]]
"""Size in bytes, mtime in nanoseconds and inode of each file, by its path as it is shown."""


class Workspace:
    """A folder held open. Safe to use from several threads; `close` it, or use it as a context manager."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        """Open the folder `root` (its own path may hold links). Raises WorkspaceError when that fails."""
        try:
            if create:
                root.mkdir(parents=True, exist_ok=True)
            self.root = root.resolve(strict=True)
            self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise WorkspaceError(
                f"The workspace '{root}' cannot be opened: {reason}; name an existing folder."
            ) from error

    def close(self) -> None:
        """Give the descriptor back. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def normalise(self, path: str) -> str:
        """The path as the tools report it: no `./`, no doubled slashes, printable. Raises WorkspaceError if refused."""
        return show_name("/".join(self._parts(path))) or "."

    def read_bytes(self, path: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Content of a regular file. Raises WorkspaceError, which names similar files when this one is missing."""
        parts = self._file_parts(path)
        label = show_name("/".join(parts))
        try:
            with self._folder(parts[:-1]) as folder_fd:
                fd, _ = dirfd.open_file(folder_fd, parts[-1], label, max_bytes=max_bytes)
                try:
                    return dirfd.read_all(fd, label, max_bytes=max_bytes)
                finally:
                    os.close(fd)
        except FileNotFoundError:
            raise self._missing("/".join(parts)) from None
        except OSError as error:
            raise dirfd.file_error(error, label) from error

    def write_bytes(self, path: str, data: bytes) -> None:
        """Make the file hold `data`, all or nothing; missing folders are made. Raises WorkspaceError when refused."""
        parts = self._file_parts(path)
        label = show_name("/".join(parts))
        if len(data) > MAX_FILE_BYTES:
            raise WorkspaceError(f"'{label}' would be {len(data):,} bytes; {MAX_FILE_BYTES:,} are allowed.")
        try:
            with self._folder(parts[:-1], create=True) as folder_fd:
                dirfd.replace_file(folder_fd, parts[-1], data, label)
        except OSError as error:
            raise dirfd.file_error(error, label) from error

    def size(self, path: str) -> int | None:
        """Bytes of the regular file `path`, None when there is none, links not followed. Raises WorkspaceError."""
        parts = self._parts(path)
        try:
            with self._folder(parts[:-1]) as folder_fd:
                status = os.stat(parts[-1] if parts else ".", dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise dirfd.file_error(error, show_name(path)) from error
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def entries(self, path: str = "") -> Iterator[Entry]:
        """What lies in a folder and below it, at most MAX_ENTRIES, paths relative to the workspace.

        Raises WorkspaceError when it is missing, a link or not a folder.
        """
        parts = self._parts(path)
        try:
            with self._folder(parts) as folder_fd:
                yield from itertools.islice(dirfd.walk(folder_fd, parts), MAX_ENTRIES)
        except FileNotFoundError:
            raise self._missing("/".join(parts)) from None

    def snapshot(self) -> Snapshot:
        """The files that are there now, without reading them."""
        return {
            entry.path: (entry.size, entry.mtime_ns, entry.inode) for entry in self.entries() if entry.kind == "file"
        }

    def changes_since(self, before: Snapshot) -> tuple[str, ...]:
        """Paths of files that were made, changed or removed since `before`, sorted."""
        now = self.snapshot()
        return tuple(sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)))

    def copy_to(self, target: Path, *, max_bytes: int = MAX_COPY_BYTES) -> tuple[str, ...]:
        """Copy folders and regular files into the empty or new folder `target`; the paths left out are returned.

        Links, special files, protected names and files that the tools refuse are left out. Raises WorkspaceError when
        there is more than `max_bytes`, or more than MAX_ENTRIES things.
        """
        target.mkdir(parents=True, exist_ok=True)
        left_out: list[str] = []
        room = max_bytes
        for count, entry in enumerate(self.entries(), start=1):
            if count == MAX_ENTRIES:
                raise WorkspaceError(
                    f"The workspace holds more than {MAX_ENTRIES:,} files; it is too big to be copied."
                )
            if entry.kind == "folder":
                target.joinpath(*entry.parts).mkdir(exist_ok=True)
                continue
            if entry.kind != "file" or (copied := self._copy(entry, target, room)) is None:
                left_out.append(entry.path)
                continue
            room -= copied
            if room < 0:
                raise WorkspaceError(f"The workspace holds more than {max_bytes:,} bytes; it is too big to be copied.")
        return tuple(left_out)

    def _copy(self, entry: Entry, target: Path, room: int) -> int | None:
        """Bytes copied (more than `room` when it does not fit), None when the file is refused or gone."""
        try:
            with self._folder(entry.parts[:-1]) as folder_fd:
                fd, status = dirfd.open_file(folder_fd, entry.parts[-1], entry.path, max_bytes=1 << 62)
        except (OSError, WorkspaceError):
            return None
        copied = 0
        try:
            path = target.joinpath(*entry.parts)
            with open(path, "xb") as copy:
                os.fchmod(copy.fileno(), (status.st_mode & 0o777) | 0o600)
                while copied <= room and (piece := os.read(fd, 1 << 20)):
                    copied += copy.write(piece)
        finally:
            os.close(fd)
        return copied

    @contextlib.contextmanager
    def _folder(self, parts: tuple[str, ...], *, create: bool = False) -> Generator[int]:
        fd = dirfd.open_folder(self._fd, parts, create=create)
        try:
            yield fd
        finally:
            os.close(fd)

    def _parts(self, path: str) -> tuple[str, ...]:
        parts = split_path(path)
        if parts and parts[0] == "workspace":
            try:
                os.stat("workspace", dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return parts[1:]
        return parts

    def _file_parts(self, path: str) -> tuple[str, ...]:
        parts = self._parts(path)
        if not parts or path.endswith("/"):
            raise WorkspaceError(f"'{show_name(path)}' names a folder; name a file.")
        return parts

    def why_missing(self, path: str) -> str:
        """What a script should know that found nothing at `path`: similar names, and whether the folder is missing.

        Empty if something is there by now, or if it is no path of this workspace.
        """
        try:
            parts = split_path(path)
            if self._exists(parts):
                return ""
            folder = self._exists(parts[:-1])
        except (OSError, WorkspaceError):
            return ""
        sentence, place = str(self._missing("/".join(parts))), show_name("/".join(parts[:-1]))
        if folder:
            return sentence
        made = f"There is no folder '{place}'; os.makedirs('{place}') makes it."
        return f"{sentence} {made}" if sentence.endswith("?") else made

    def _exists(self, parts: tuple[str, ...]) -> bool:
        if not parts:
            return True
        try:
            with self._folder(parts[:-1]) as folder_fd:
                os.stat(parts[-1], dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _missing(self, path: str) -> WorkspaceError:
        """The sentence for a path that does not exist, with what the model may have meant."""
        found = [e for e in itertools.islice(self.entries(), _MAX_SUGGESTED_FROM) if e.kind in ("file", "folder")]
        by_path = {entry.path: entry.path for entry in found}
        by_name = {entry.path.rpartition("/")[2].casefold(): entry.path for entry in reversed(found)}
        wanted = show_name(path)
        near = [by_path[match] for match in difflib.get_close_matches(wanted, by_path, n=3, cutoff=0.7)]
        name = wanted.rpartition("/")[2].casefold()
        near += [by_name[match] for match in difflib.get_close_matches(name, by_name, n=3, cutoff=0.6)]
        if near:
            names = " or ".join(f"'{match}'" for match in list(dict.fromkeys(near))[:3])
            return WorkspaceError(f"'{wanted}' does not exist; did you mean {names}?")
        files = [entry.path for entry in found if entry.kind == "file"]
        if not files:
            return WorkspaceError(f"'{wanted}' does not exist; the workspace holds no files.")
        more = f" and {len(files) - 8} more" if len(files) > 8 else ""
        return WorkspaceError(f"'{wanted}' does not exist; the workspace holds {', '.join(files[:8])}{more}.")
