"""How many threads a pass runs on: all while they are left alone, fewer while other work wants the processors.

A pass of a small model has some three hundred places at which its threads wait for each other, for microseconds each.
Waiting asleep, they are woken too late each time: two threads are then hardly quicker than one. Waiting awake
(`SPINS` turns, before they sleep), they are half as quick again; but beside another busy process one of them is then
preempted in its work while the other turns, and both are two to four times as slow as one alone. So they wait awake,
and what the system says of them tells when to go down to half of them, and whether going up again was right.

A token's numbers do not depend on it where weights are int8 or bfloat16 (`tests/engine/test_engine_threads.py`);
float32 products are summed in another order, so those keep their threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.engine.network import Network

SPINS = 3000
"""Turns of libgomp's waiting loop. 300 gain little; 3,000 to 30,000 gain the same on a quiet machine, and the fewest of
them lose least beside other work."""
LOOK_SECONDS = 0.06
"""Passes are judged together when they took so long."""
LEAST_SHARE = 0.85
"""Of its threads' time a pass that is left alone gets .99, one of two threads beside a busy process .64."""
PREEMPTIONS = 40.0
"""A second and thread: left alone there are 10 to 25, beside busy processes 90 to 130. With fewer, threads that did not
use their time were asleep."""
SHORTEST_REST, LONGEST_REST = 0.25, 4.0
"""Seconds until more threads are tried again: doubled where the first passes with them are disturbed at once, halved
where they are not. So they are long beside lasting work, and short beside what comes and goes, as a batch's scripts."""


def wait_awake() -> None:
    """Let OpenMP's threads wait awake for a moment before they sleep; to be called before torch is first imported.

    Who sets OpenMP's policy himself decides alone. Trainings, whose products take milliseconds, gain nothing by it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def threads_for(network: Network) -> AbstractContextManager[object]:
    """What each pass of a network is to run in."""
    used = process_use()
    if network.device.type != "cpu" or network.dtype == "fp32" or used is None:
        return nullcontext()
    return Threads(used)


class Use(NamedTuple):
    """What this process used so far: wall seconds, processor seconds, and how often a thread of it was preempted."""

    wall: float
    cpu: float
    preempted: int


def process_use() -> Callable[[], Use] | None:
    """Says what this process used so far; None where the system does not count it."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None

    def used() -> Use:
        counted = getrusage(RUSAGE_SELF)
        return Use(time.monotonic(), counted.ru_utime + counted.ru_stime, counted.ru_nivcsw)

    return used


class Threads:
    """A context for each pass, which runs on torch's threads, or on a half, a quarter ... of them."""

    def __init__(self, used: Callable[[], Use]) -> None:
        self._used = used
        self._halvings, self._rest = 0, SHORTEST_REST
        self._until = -LONGEST_REST
        self._trying = False
        self._all = 1
        self._passes = Use(0.0, 0.0, 0)

    def __enter__(self) -> int:
        """The number of threads of this pass."""
        import torch

        self._before = self._used()
        now = self._before.wall
        if self._halvings and now >= self._until:
            self._halvings -= 1
            self._trying, self._until = True, now + self._rest
            self._passes = Use(0.0, 0.0, 0)
        self._all = torch.get_num_threads()
        if (fewer := self._threads()) != self._all:
            torch.set_num_threads(fewer)
        return fewer

    def __exit__(self, *_: object) -> None:
        import torch

        threads = self._threads()
        if threads != self._all:
            torch.set_num_threads(self._all)
        now, before, passes = self._used(), self._before, self._passes
        self._passes = passes = Use(
            passes.wall + now.wall - before.wall,
            passes.cpu + now.cpu - before.cpu,
            passes.preempted + now.preempted - before.preempted,
        )
        if passes.wall < LOOK_SECONDS:
            return
        self._passes = Use(0.0, 0.0, 0)
        shared = passes.cpu < LEAST_SHARE * threads * passes.wall
        disturbed = threads > 1 and shared and passes.preempted > PREEMPTIONS * threads * passes.wall
        if self._trying:
            self._rest = min(2 * self._rest, LONGEST_REST) if disturbed else max(self._rest / 2, SHORTEST_REST)
            self._trying = False
        if disturbed:
            self._halvings += 1
            self._until = now.wall + self._rest

    def _threads(self) -> int:
        return max(1, self._all >> self._halvings)
