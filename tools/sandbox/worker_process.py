"""One running sandbox: the process that holds a worker, and the socket to it."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.types import WhetstoneError
from tools.sandbox import supervisor
from tools.sandbox.bundle import boot_arguments, code_bundle
from tools.sandbox.inside import channel
from tools.sandbox.inside.removal import remove_tree

START_SECONDS = 20.0


@dataclass(frozen=True)
class Launch:
    """How to start a worker. `{control}` in `argv` stands for the number of an inherited descriptor."""

    argv: tuple[str, ...]
    config: Mapping[str, Any]
    workspace: str
    trees: tuple[str, ...] = ()
    """What the launcher must be able to reach when root hands over to another user."""
    hide: tuple[str, ...] = ()


class WorkerProcess:
    """Starts at once; `ready` waits until it can take calls."""

    def __init__(self, launch: Launch) -> None:
        self.mode = ""
        self.home = ""
        """A folder on the host that the worker made and removes, empty where it made none."""
        ours, theirs = socket.socketpair()
        self._control = ours
        self._errors, errors_in = os.pipe()
        argv = [str(theirs.fileno()) if part == "{control}" else part for part in launch.argv]
        order = b""
        if os.geteuid() == 0:
            asked = supervisor.protocol(argv, launch.trees, launch.workspace, launch.hide)
            argv = [sys.executable, *boot_arguments("0", "tools.sandbox.supervisor")]
            order = code_bundle() + marshal.dumps(dict(asked))
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors_in,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},  # nothing of ours to be found inside
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            ours.close()
            os.close(self._errors)
            raise WhetstoneError(f"The sandbox cannot be started: {error}.") from error
        finally:
            theirs.close()
            os.close(errors_in)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(order)
        ours.settimeout(START_SECONDS)  # until it greets us: one that never reads must not hold us up
        with contextlib.suppress(channel.ChannelClosed, OSError):
            ours.sendall(code_bundle())
            channel.send(ours, dict(launch.config))

    def ready(self) -> None:
        """Wait for the worker's greeting. Raises WhetstoneError with what the launcher said when it does not come."""
        if self.mode:
            return
        try:
            greeting, _fds = channel.receive(self._control)
        except channel.ChannelClosed as error:
            self.stop()
            raise WhetstoneError(f"The sandbox did not start: {self._said() or error}") from error
        self._control.settimeout(None)
        self.mode, self.home = str(greeting["mode"]), str(greeting["home"])

    def call(self, request: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Hand over one call: stdin, stdout, stderr and the call's channel. Raises ChannelClosed."""
        channel.send(self._control, dict(request), tuple(fds))

    def stop(self) -> None:
        """End every process of the sandbox. Safe to call twice."""
        self._control.close()  # the worker leaves, and with it, as process 1, all that was ever started inside
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and with it, one by one, all that is to die with its parent
            self._process.wait()
        if self.home and os.geteuid() != 0:  # root's lies in a mount namespace that is gone by now
            remove_tree(self.home)  # nothing is left of it but after a worker that was killed

    def close(self) -> None:
        """`stop`, and forget what the launcher said."""
        self.stop()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def _said(self) -> str:
        os.set_blocking(self._errors, False)
        with contextlib.suppress(OSError):
            return os.read(self._errors, 4096).decode(errors="replace").strip()
        return ""
