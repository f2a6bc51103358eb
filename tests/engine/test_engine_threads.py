"""Passes take fewer threads while other work wants the processors, and all of them again afterwards."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.engine.models import load_model
from agent.engine.network import Row
from agent.engine.threads import LONGEST_REST, SHORTEST_REST, Threads, Use, process_use, threads_for
from tests.models import build_model


class Machine:
    """Time as a test wants it. Passes take 40 ms."""

    def __init__(self) -> None:
        self.now, self.cpu, self.preempted = 1000.0, 0.0, 0
        self.threads: Threads = Threads(self.used)

    def used(self) -> Use:
        return Use(self.now, self.cpu, self.preempted)

    def run(self, *, crowded: bool = False, asleep: bool = False, seconds: float = 0.04) -> int:
        """One pass, beside other work or not, with threads that use their time or not; how many threads it had."""
        with self.threads as count:
            disturbed = crowded and count > 1
            self.now += seconds
            self.cpu += seconds * count * (0.6 if disturbed or asleep else 0.99)
            self.preempted += 10 * count if disturbed else 1
        return count

    def settled(self, **how: bool) -> list[int]:
        """The threads of as many passes as are judged at least three times, each number once."""
        counts = [self.run(**how) for _ in range(6)]
        return [n for n, after in zip(counts, [*counts[1:], 0], strict=True) if n != after]


@pytest.fixture
def machine() -> Generator[Machine]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield Machine()
    torch.set_num_threads(before)


def test_a_quiet_machine_keeps_all_threads(machine: Machine) -> None:
    assert machine.settled() == [4]


def test_passes_that_are_disturbed_go_down_to_one_thread_and_leave_torch_its_number(machine: Machine) -> None:
    import torch

    assert machine.settled(crowded=True) == [4, 2, 1]
    assert torch.get_num_threads() == 4


def test_threads_that_had_nothing_to_do_are_kept(machine: Machine) -> None:
    assert machine.settled(asleep=True) == [4]


def test_after_a_rest_all_threads_are_tried_again(machine: Machine) -> None:
    assert [machine.run(crowded=True), machine.run(crowded=True), machine.run()] == [4, 4, 2]
    machine.now += SHORTEST_REST
    assert machine.settled() == [4]


def test_beside_lasting_work_the_rests_grow_until_few_passes_are_disturbed(machine: Machine) -> None:
    for _ in range(1000):
        machine.run(crowded=True)
    counts = [machine.run(crowded=True) for _ in range(500)]
    assert counts.count(1) > 0.9 * len(counts)
    for _ in range(2):
        machine.now += LONGEST_REST
        machine.run()
    assert machine.settled() == [4]


def test_work_that_comes_and_goes_keeps_the_rests_short(machine: Machine) -> None:
    """Scripts of other sessions take a fifth of the time, 80 ms each."""
    chance = random.Random(1)
    counts: list[int] = []
    for _ in range(1000):
        script = chance.random() < 0.2
        counts += [machine.run(crowded=script) for _ in range(2)]
    assert counts.count(1) < 0.65 * len(counts)


def test_short_passes_are_judged_together(machine: Machine) -> None:
    assert [machine.run(crowded=True, seconds=0.018) for _ in range(5)] == [4, 4, 4, 4, 2]


@pytest.mark.parametrize("dtype", ["int8", "bf16"])
def test_the_number_of_threads_changes_no_number(dtype: Any, tmp_path: Path) -> None:
    import torch

    build_model(tmp_path / "tiny")
    network = load_model(str(tmp_path / "tiny"), dtype=dtype, cache=tmp_path / "cache").model
    assert isinstance(threads_for(network), Threads) or process_use() is None

    def logits(threads: int, count: int) -> torch.Tensor:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            caches = [network.new_cache() for _ in range(3)]
            for n, cache in enumerate(caches):
                ids = list(range(3, 90 + n))
                network.forward([Row(cache, ids)])
                cache.ids += ids
            return network.forward([Row(cache, list(range(5, 5 + count)), count) for cache in caches])

    before = torch.get_num_threads()
    try:
        for count in (1, 5, 40):
            assert torch.equal(logits(1, count), logits(3, count))
    finally:
        torch.set_num_threads(before)


def test_float32_and_graphics_processors_keep_their_threads() -> None:
    for kind, dtype in (("cpu", "fp32"), ("cuda", "bf16")):
        network: Any = SimpleNamespace(device=SimpleNamespace(type=kind), dtype=dtype)
        assert not isinstance(threads_for(network), Threads)


@pytest.mark.parametrize(("policy", "told"), [("", "3000 PASSIVE"), ("ACTIVE", "None ACTIVE")])
def test_threads_wait_awake_for_a_moment_unless_somebody_set_it(policy: str, told: str, tmp_path: Path) -> None:
    build_model(tmp_path / "tiny")
    code = """
import os, sys
from pathlib import Path
from agent.engine.models import open_base
open_base(sys.argv[1], cache=Path(sys.argv[2]))
print(os.environ.get("GOMP_SPINCOUNT"), os.environ["OMP_WAIT_POLICY"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    command = [sys.executable, "-c", code, str(tmp_path / "tiny"), str(tmp_path / "cache")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == told
