"""A sandbox that is started when the first script comes.

covers: every start takes the whole proof again, and a script runs only after it.
does not cover: telling beforehand that a sandbox which held once on this machine does not hold any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from agent.types import Capability, Limits, Sandbox, SandboxResult, WhetstoneError


class DeferredSandbox:
    """`capability` is what an earlier start on this machine found out; `start` gives the sandbox, or None."""

    def __init__(self, capability: Capability, start: Callable[[], Sandbox | None]) -> None:
        self.capability = capability
        self._start = start
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._closed = False

    def run_python(self, source: str, *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        """Run a Python script. Raises WhetstoneError if it cannot start, or if the sandbox does not hold."""
        return self._started().run_python(source, limits=limits, stdin=stdin)

    def run_command(self, argv: Sequence[str], *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        """Run a program. Raises WhetstoneError if it cannot start, or if the sandbox does not hold."""
        return self._started().run_command(argv, limits=limits, stdin=stdin)

    def close(self) -> None:
        """End every process. Safe to call twice."""
        with self._lock:
            self._closed = True
            if self._sandbox is not None:
                self._sandbox.close()

    def _started(self) -> Sandbox:
        with self._lock:
            if self._closed:
                raise WhetstoneError("The sandbox is closed; open a new one.")
            if self._sandbox is None:
                self._sandbox = self._start()
            if self._sandbox is None or self._sandbox.capability.rung != self.capability.rung:
                raise WhetstoneError(
                    f"The sandbox ({self.capability.rung}) held before and does not hold any more; `doctor` says why."
                )
            return self._sandbox
