"""How a batch is asked to stop: by Ctrl-C once, twice, or by the program around it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any


class Stopping:
    """`drain` begins no further goal, `stop` also ends the running ones after what they are doing at the moment."""

    def __init__(self) -> None:
        self._drain, self._stop = threading.Event(), threading.Event()

    def drain(self) -> None:
        self._drain.set()

    def stop(self) -> None:
        self._drain.set()
        self._stop.set()

    @property
    def draining(self) -> bool:
        return self._drain.is_set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()


@contextlib.contextmanager
def stopped_by_sigint(told: Callable[[str], None]) -> Generator[Stopping]:
    """The first Ctrl-C drains, the second stops, the third is Python's own. `told` is given a sentence each time.

    To be entered in the main thread.
    """
    stopping = Stopping()
    former: Any = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: FrameType | None) -> None:
        if not stopping.draining:
            stopping.drain()
            said = "no further goal is begun; the running ones go on to their end (Ctrl-C again stops them)"
        else:
            stopping.stop()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            said = "stopping; what was done is saved, and the same command goes on"
        with contextlib.suppress(RuntimeError):  # the signal came in the middle of a print
            told(said)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, former)
