"""Where a batch stands, folded from the events and results of its goals. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.batch.results import Result
from agent.types import Event

WINDOW_SECONDS = 30.0
"""How far back the speed is measured."""


@dataclass(frozen=True)
class Running:
    """A goal under way; `since` is monotonic seconds."""

    id: str
    since: float
    step: int = 0
    doing: str = "thinks"


@dataclass(frozen=True)
class Standing:
    """All that a view shows. `left` is in seconds, None as long as it cannot be told."""

    total: int
    done: int
    succeeded: int
    endings: dict[str, int]
    running: tuple[Running, ...]
    fresh: int
    """Goals that ended in this run; results kept from an earlier one are in `done` only."""
    tokens_per_second: float
    seconds: float
    left: float | None


class BatchProgress:
    """Feed it; `standing` says how things are. `total` is the number of goals."""

    def __init__(self, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._endings: Counter[str] = Counter()
        self._succeeded = 0
        self._fresh = 0
        self._tokens: deque[tuple[float, int]] = deque()

    def now(self) -> float:
        return self._clock()

    def event(self, goal: str, event: Event) -> None:
        with self._lock:
            now = self._clock()
            running = self._running.get(goal) or Running(goal, now)
            if event.kind == "action":
                running = replace(running, step=event.data["step"], doing=str(event.data["tool"] or "thinks"))
                usage = event.data["usage"]
                self._tokens.append((now, usage["forced"] + usage["sampled"]))
            elif event.kind == "observation":
                running = replace(running, doing="thinks")
            self._running[goal] = running

    def result(self, result: Result) -> None:
        with self._lock:
            running = self._running.pop(result.id, None)
            self._fresh += running is not None
            if running is not None and not running.step:  # from another machine, whose single steps are not heard of
                self._tokens.append((self._clock(), result.tokens))
            self._endings[result.ending] += 1
            self._succeeded += result.succeeded

    def standing(self) -> Standing:
        with self._lock:
            now = self._clock()
            while self._tokens and self._tokens[0][0] < now - WINDOW_SECONDS:
                self._tokens.popleft()
            spent = now - self._began
            done = self._endings.total()
            left = None if not self._fresh else spent / self._fresh * (self._total - done)
            return Standing(
                total=self._total,
                done=done,
                succeeded=self._succeeded,
                endings=dict(self._endings.most_common()),
                running=tuple(sorted(self._running.values(), key=lambda running: running.since)),
                fresh=self._fresh,
                tokens_per_second=sum(n for _, n in self._tokens) / max(1.0, min(WINDOW_SECONDS, spent)),
                seconds=spent,
                left=left,
            )
