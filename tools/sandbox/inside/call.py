"""One call: a warden that shuts a payload in, watches it, ends every process of it and reports.

The warden is forked from the worker and runs none of the payload's code. With namespaces it is process 1 of the
call's own process tree: nothing below can signal it, and `kill(-1)` from it reaches everything and only the call.
Without, it is the subreaper that all orphans of the call fall to.

covers: every limit by name; no process of the call outlives it, however it was started; the caller going away ends
the call.
does not cover: a payload that ends within one look (20 ms) may overshoot memory or disk by what it managed in that
time.
"""

# Paths are strings here, as the kernel takes them.
from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from tools.sandbox.inside import channel, jail, measure, script
from tools.sandbox.inside.removal import remove_tree

LOOK_SECONDS = 0.02
_SIGNAL_LIMITS: dict[int, str] = {signal.SIGXCPU: "cpu_seconds", signal.SIGXFSZ: "file_bytes"}


class Place:
    """Where calls run: the workspace as the worker sees it, the temporary folders, and Landlock's trees if it rules."""

    def __init__(self, workspace: str, folders: tuple[str, ...], rules: Mapping[str, Any] | None = None) -> None:
        self.workspace, self.folders, self.rules = workspace, folders, rules

    @property
    def signals_by_warden(self) -> bool:
        """Whether the kernel cannot keep signals within the call, so that the call may send none."""
        return self.rules is not None and int(self.rules["abi"]) < 6

    @property
    def own_processes(self) -> bool:
        """Whether the warden is process 1 of a process tree of the call's own."""
        return os.getpid() == 1


def serve_call(request: Mapping[str, Any], fds: list[int], place: Place) -> Callable[[], None]:
    """Be the warden of one call. Returns only in the payload, with what it must run; the warden itself exits.

    `fds` are stdin, stdout, stderr and the call's channel. A failure before the payload runs is reported on the channel
    as `failed`. Raises OSError before there is a payload.
    """
    limits = request["limits"]
    disk = measure.Disk(place.workspace, place.folders, int(limits["disk_bytes"]))
    tasks = measure.tasks_of_user(os.getuid()) if place.rules is not None else 0
    broken, broken_in = os.pipe()
    signals, signals_in = socket.socketpair(type=socket.SOCK_SEQPACKET) if place.signals_by_warden else (None, None)
    payload = os.fork()
    if payload == 0:
        inherited = [broken_in, *([signals_in.detach()] if signals_in else [])]
        return _payload(request, [*fds[:3], *inherited], place, tasks)
    try:
        for fd in (*fds[:3], broken_in):
            os.close(fd)
        if signals_in:
            signals_in.close()
        with socket.socket(fileno=fds[3]) as line:
            result = _watch(payload, line, signals, limits, place, disk)
            problem = os.read(broken, 4096)
            if not place.own_processes:
                for folder in place.folders:
                    remove_tree(folder)
            with contextlib.suppress(channel.ChannelClosed):
                channel.send(line, {"failed": problem.decode(errors="replace")} if problem else result)
    finally:
        os._exit(0)


def _payload(request: Mapping[str, Any], fds: list[int], place: Place, tasks: int) -> Callable[[], None]:
    """Become the code that nobody trusts, as far as it can be done before running it.

    `fds` are stdin, stdout, stderr, where to write what went wrong, and (maybe) where to ask for signals.
    """
    broken = fds[3]
    try:
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]  # out of the way of where they go
        for target, fd in enumerate(high):
            os.dup2(fd, target, inheritable=target < 3)
        broken = 3
        os.closerange(len(fds), 1 << 20)
        os.setsid()
        os.chdir(place.workspace)
        os.environ.clear()
        os.environ.update(request["env"])
        jail.confine(request["limits"], place.rules, tasks)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(broken, f"{type(error).__name__}: {error}"[:4000].encode(errors="replace"))
        os._exit(125)
    if request["kind"] == "command":
        _execute(request["argv"])
    os.close(broken)
    script.open_streams()
    if len(fds) > 4:
        from tools.sandbox.inside import emulation

        emulation.send_signals_through(4)
    return lambda: script.run_script(request["source"], place.workspace)


def _execute(argv: list[str]) -> None:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: cannot be run: {error.strerror}\n".encode(errors="replace"))
        os._exit(126 if isinstance(error, PermissionError) else 127)


def _watch(
    payload: int,
    line: socket.socket,
    signals: socket.socket | None,
    limits: Mapping[str, Any],
    place: Place,
    disk: measure.Disk,
) -> dict[str, Any]:
    began = time.monotonic()
    deadline = began + float(limits["wall_seconds"])
    tree, reason, status = measure.Tree(), None, None
    watch = select.poll()
    watch.register(os.pidfd_open(payload), select.POLLIN)
    watch.register(line, select.POLLIN)
    if signals:
        watch.register(signals, select.POLLIN)
    first = True
    while reason is None and status is None:
        pause = max(0.0, min(LOOK_SECONDS, deadline - time.monotonic()))
        ready = [fd for fd, _event in watch.poll(pause * 1000)]
        if line.fileno() in ready:
            reason = _order(line)
        if signals and signals.fileno() in ready:
            from tools.sandbox.inside import emulation

            if not emulation.deliver_signal(signals, lambda: _pids(place)):
                watch.unregister(signals)
                signals = None
        status = _reap(payload)
        if status is not None or reason is not None:
            break
        if first:  # only a run of some length can fill a disk
            disk.remember()
            first = False
        reason = _exceeded(tree, disk, limits, deadline, _pids(place))
    _end_all(place)
    status = _reap(payload) if status is None else status
    while _reap(payload, wait=True) is not None:
        pass
    if reason is None and disk.used([], last=True) > int(limits["disk_bytes"]):
        reason = "disk_bytes"  # it filled the folder between two looks, met the end of it, and left
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = max(tree.cpu_seconds, spent.ru_utime + spent.ru_stime)
    ended_by = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
    if reason is None and ended_by:
        reason = _SIGNAL_LIMITS.get(ended_by, f"signal {ended_by}")
        if ended_by == signal.SIGKILL and cpu >= float(limits["cpu_seconds"]):
            reason = "cpu_seconds"
    exit_code = os.WEXITSTATUS(status) if reason is None and status is not None else None
    return {
        "exit_code": exit_code,
        "killed_by": reason,
        "wall_seconds": time.monotonic() - began,
        "cpu_seconds": cpu,
        "peak_memory_bytes": max(tree.peak_memory, spent.ru_maxrss * 1024),
    }


def _exceeded(
    tree: measure.Tree, disk: measure.Disk, limits: Mapping[str, Any], deadline: float, pids: list[int]
) -> str | None:
    if time.monotonic() >= deadline:
        return "wall_seconds"
    if tree.look(pids, int(limits["memory_bytes"])) > int(limits["memory_bytes"]):
        return "memory_bytes"
    if tree.tasks > int(limits["processes"]):
        return "processes"
    if tree.cpu_seconds > float(limits["cpu_seconds"]):
        return "cpu_seconds"
    if disk.used(pids) > int(limits["disk_bytes"]):
        return "disk_bytes"
    return None


def _order(line: socket.socket) -> str:
    """What the caller wants: it names the limit it saw exceeded (`output_bytes`), or is gone."""
    try:
        message, _fds = channel.receive(line)
        return str(message.get("kill", "signal 9"))
    except channel.ChannelClosed:
        return "signal 9"


def _reap(payload: int, wait: bool = False) -> int | None:
    """Collect what has ended; the payload's status if it is among it. With `wait`, wait for all, and then None."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        except ChildProcessError:
            return found if not wait else None
        if pid == 0:
            return found
        if pid == payload:
            found = status


def _pids(place: Place) -> list[int]:
    if place.own_processes:
        return [pid for pid in measure.processes() if pid != 1]
    return measure.descendants(os.getpid())


def _end_all(place: Place) -> None:
    if place.own_processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # one step for the kernel: nothing can fork its way past it
    else:
        end_descendants()


def end_descendants() -> None:
    """End every process below this one, which must be the subreaper of them all."""
    for _round in range(1000):
        left = measure.descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))  # what is reached first can start nothing new
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _reap(-1)
        if not left:
            return
        time.sleep(0.001)
