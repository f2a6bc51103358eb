"""What a tree of processes and its folders use: memory, processor time, tasks, disk.

covers: resident memory without the files it maps, shared memory counted once when it matters; processor time of
processes that have ended between two looks; blocks of files in the workspace and the temporary folders, unlinked ones
still open included, and those written before the first look.
does not cover: anything that comes and goes between two looks (20 ms apart); blocks of an unlinked file that is only
mapped, no longer open; what others write into the workspace itself, which counts as the run's; a workspace on a file
system whose server has a clock of its own.
"""

# Paths are strings here, as the kernel takes them.
# ruff: noqa: PTH110, PTH116, PTH208
from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
# The kernel stamps files by a clock that moves in steps of up to ten milliseconds.
_CLOCK_STEP = 20_000_000


def descendants(root: int) -> list[int]:
    """Process ids of all processes below `root` (itself not included), by a walk of `/proc`."""
    try:
        return _children_of(root)
    except FileNotFoundError:
        pass
    parents: dict[int, list[int]] = {}
    for pid in processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents.setdefault(int(_stat_fields(pid)[1]), []).append(pid)
    found, todo = [], list(parents.get(root, ()))
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += parents.get(pid, ())
    return found


def processes() -> list[int]:
    """All process ids in `/proc`."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def tasks_of_user(uid: int) -> int:
    """How many tasks (threads) of this user the kernel counts against its process limit."""
    count = 0
    for pid in processes():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid:
                count += len(os.listdir(f"/proc/{pid}/task"))
    return count


class Tree:
    """Memory, time and tasks of a set of processes, looked at again and again."""

    def __init__(self) -> None:
        self.peak_memory = 0
        self.tasks = 0
        self._cpu: dict[tuple[int, str], float] = {}

    @property
    def cpu_seconds(self) -> float:
        """Processor time of every process that was ever seen, in seconds."""
        return sum(self._cpu.values())

    def look(self, pids: Iterable[int], memory_limit: int) -> int:
        """Look at the processes now; the bytes of memory they use. Updates `peak_memory`, `tasks` and `cpu_seconds`."""
        alive, memory, self.tasks = [], 0, 0
        for pid in pids:
            try:
                fields = _stat_fields(pid)
                with open(f"/proc/{pid}/status", "rb") as file:
                    status = file.read()
            except OSError:
                continue
            alive.append(pid)
            self._cpu[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / _TICKS
            self.tasks += int(fields[17])
            memory += _kilobytes(status, b"RssAnon:") + _kilobytes(status, b"RssShmem:")
        if memory > memory_limit:
            # Pages that a fork shares were counted once for each process: now it matters, count them right.
            memory = sum(_proportional(pid) for pid in alive)
        self.peak_memory = max(self.peak_memory, memory)
        return memory


class Disk:
    """Growth of a workspace plus what temporary folders hold, in bytes.

    A walk of a large workspace is slow, so the free space of its file system decides when one is due.
    """

    def __init__(self, workspace: str, folders: Sequence[str], limit: int) -> None:
        self._workspace, self._folders, self._limit = workspace, folders, limit
        self._began = time.time_ns() - _CLOCK_STEP
        self._free = _free_bytes(workspace)
        self._inodes = os.statvfs(workspace).f_ffree
        self._start: int | None = None
        self._next_walk = 0.0

    def remember(self) -> None:
        """Walk the workspace once, for what of it was there before the run."""
        self._start = _tree_bytes(self._workspace, time.monotonic() + 1.0, lambda changed: changed < self._began)

    def used(self, pids: Iterable[int], *, last: bool = False) -> int:
        """Bytes used now, as far as they can be told apart from what others write on the same file system.

        A walk is put off where the one before took long, but for the `last` look.
        """
        temporary = sum(_folder_bytes(folder) for folder in self._folders)
        now = os.statvfs(self._workspace)
        shrunk = max(0, self._free - now.f_bfree * now.f_frsize)
        # Every file costs an inode, which is a few hundred bytes that no block count shows.
        files = max(0, self._inodes - now.f_ffree) * 4096
        taken = max(shrunk, files)
        began = time.monotonic()
        if taken + temporary <= self._limit or (began < self._next_walk and not last):
            return temporary
        grown = temporary + self._growth(taken) + _unlinked_bytes(pids, os.stat(self._workspace).st_dev)
        self._next_walk = time.monotonic() + 5 * (time.monotonic() - began)
        return grown

    def _growth(self, taken: int) -> int:
        """By how much the workspace grew; no more than was `taken` of the file system since the run began."""
        # Without a walk at the start (the run was over before one was due, or it took too long) only what was changed
        # since can have grown.
        since = self._began if self._start is None else 0
        now = _tree_bytes(self._workspace, time.monotonic() + 1.0, lambda changed: changed >= since)
        if now is None:
            return taken  # too large to walk in time: believe the file system
        return min(taken, max(0, now - (self._start or 0)))


def _children_of(root: int) -> list[int]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    children = [int(child) for child in file.read().split()]
            except (FileNotFoundError, ProcessLookupError):
                if pid == root and os.path.exists(f"/proc/{pid}/task/{thread}"):
                    raise FileNotFoundError("the kernel does not list children") from None
                continue
            found += children
            todo += children
    return found


def _stat_fields(pid: int) -> list[str]:
    """Fields of `/proc/<pid>/stat` from the state on: [0] state, [1] parent, [11] user, [12] system time, [17] threads,
    [19] start time (proc(5) counts from 1 and puts three before)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].decode().split()


def _kilobytes(status: bytes, key: bytes) -> int:
    start = status.find(key)
    return 0 if start < 0 else int(status[start + len(key) : start + len(key) + 32].split(maxsplit=1)[0]) * 1024


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            text = file.read()
        return _kilobytes(text, b"Pss_Anon:") + _kilobytes(text, b"Pss_Shmem:")
    except OSError:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
            status = file.read()
            return _kilobytes(status, b"RssAnon:") + _kilobytes(status, b"RssShmem:")
        return 0


def _free_bytes(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize


def _folder_bytes(folder: str) -> int:
    """A mounted temporary file system tells its use at once; an ordinary folder must be walked."""
    try:
        if os.path.ismount(folder):
            status = os.statvfs(folder)
            return (status.f_blocks - status.f_bfree) * status.f_frsize
    except OSError:
        return 0
    return _tree_bytes(folder, time.monotonic() + 0.5) or 0


def _tree_bytes(folder: str, deadline: float, counts: Callable[[int], bool] = lambda _changed: True) -> int | None:
    """Bytes of the blocks of all files below `folder`, 4096 for each besides; None when it cannot be told.

    `counts` says for the time of a file's last change (nanoseconds of the clock) whether it is one of them.
    """
    total, todo, seen = 0, [folder], set[tuple[int, int]]()
    while todo:
        if time.monotonic() > deadline:
            return None
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    if counts(status.st_ctime_ns):
                        total += status.st_blocks * 512 + 4096
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(entry.path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES):
                return None  # too deep to be looked at by path, or shut: no count is better than a low one
    return total


def _unlinked_bytes(pids: Iterable[int], device: int) -> int:
    found: dict[int, int] = {}
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{name}")
                if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                    found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())
