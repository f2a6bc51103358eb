"""Many sessions, one engine: each gets what it would get alone, and nobody waits for ever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from jsonschema import validate
from torch import Tensor

from agent.engine.decode import Engine, Request
from agent.engine.kvcache import GROWTH_TOKENS
from agent.engine.models import LoadedModel
from agent.engine.network import Network, Row
from agent.engine.sampling import Sampling
from agent.engine.scheduler import Scheduler
from agent.types import Completion, WhetstoneError
from tests.engine.conftest import engine_of
from tests.engine.test_engine_equalities import request


class CountingNetwork:
    """The model, and how many tokens of how many rows each of its passes had."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.passes: list[list[int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def forward(self, rows: Sequence[Row]) -> Tensor:
        self.passes.append([row.count for row in rows])
        return self._network.forward(rows)


def counting(loaded: LoadedModel, **options: object) -> tuple[Engine, CountingNetwork]:
    network = CountingNetwork(loaded.model)
    return engine_of(replace(loaded, model=network), **options), network  # type: ignore[arg-type]


def requests(loaded: LoadedModel, count: int) -> list[Request]:
    sampling = Sampling(temperature=1.0, seed=5)
    return [
        replace(
            request(loaded, f"Read file {n} " * (1 + n % 3), session=f"s{n}"),
            sampling=replace(sampling, stream=f"s{n}"),
        )
        for n in range(count)
    ]


def positions(one: Request) -> int:
    """What its buffers hold at most, with the room they grow by."""
    full = len(one.ids) + one.max_tokens
    return full + max(GROWTH_TOKENS, full // 4)


def test_each_of_many_sessions_gets_what_it_gets_alone(loaded: LoadedModel) -> None:
    own = requests(loaded, 12)
    alone = [engine_of(loaded).complete(one) for one in own]
    engine, network = counting(loaded)
    with Scheduler(engine, rows=5) as scheduler, ThreadPoolExecutor(12) as threads:
        together = list(threads.map(scheduler.complete, own))
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert max(len(rows) for rows in network.passes) == 5, "they did share passes, and no more than allowed"


def test_a_request_joins_between_two_tokens_of_another(loaded: LoadedModel) -> None:
    first, second = requests(loaded, 2)
    joined = threading.Event()
    engine, network = counting(loaded)
    with Scheduler(engine) as scheduler, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(scheduler.complete, replace(first, on_text=lambda _: joined.set() or time.sleep(0.01)))
        assert joined.wait(30)
        threads.submit(scheduler.complete, second).result(30)
        slow.result(30)
    assert len(network.passes[0]) == 1
    assert any(len(rows) == 2 for rows in network.passes)


def test_a_prompt_that_others_share_is_read_once(loaded: LoadedModel) -> None:
    own = [request(loaded, "the same long beginning " * 20 + str(n), session=f"s{n}") for n in range(6)]
    engine, _network = counting(loaded, prefill_tokens=32)
    with Scheduler(engine) as scheduler, ThreadPoolExecutor(6) as threads:
        together = list(threads.map(scheduler.complete, own))
    assert sorted(c.usage.cached > 0 for c in together) == [False, *[True] * 5]
    assert [c.token_ids for c in together] == [engine_of(loaded).complete(one).token_ids for one in own]


def test_requests_wait_where_memory_would_not_hold_them_together(loaded: LoadedModel) -> None:
    own = requests(loaded, 4)
    probe = engine_of(loaded)
    probe.complete(own[0])
    per_token = probe._caches.bytes_per_token  # pyright: ignore
    budget = per_token * (max(positions(one) for one in own) * 2 + 1)
    engine, network = counting(loaded, cache_bytes=budget)
    with Scheduler(engine) as scheduler:
        scheduler.complete(own[0])  # what a token takes is known from the first
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(scheduler.complete, own))
    assert max(len(rows) for rows in network.passes) == 2
    assert [c.token_ids for c in together] == [engine_of(loaded).complete(one).token_ids for one in own]


def test_caches_stay_within_their_budget(llama: LoadedModel) -> None:
    own = [replace(request(llama, f"{n} " + f"word{n} " * 300, session=f"s{n}"), max_tokens=60) for n in range(6)]
    probe = engine_of(llama)
    probe.complete(own[0])
    budget = probe._caches.bytes_per_token * max(positions(one) for one in own) * 2  # pyright: ignore
    engine, network = counting(llama, cache_bytes=budget)
    held: list[int] = []
    forward = network.forward

    def counted(rows: Sequence[Row]) -> Tensor:
        held.append(engine._caches.bytes)  # pyright: ignore[reportPrivateUsage]
        return forward(rows)

    network.forward = counted
    scheduler = Scheduler(engine)

    def cancelled() -> bool:
        while scheduler._arrivals.qsize() < len(own):  # pyright: ignore[reportPrivateUsage]
            time.sleep(0.001)
        return True

    with scheduler, ThreadPoolExecutor(1 + len(own)) as threads:
        # They arrive together, before the first pass: what a token takes is not known yet.
        waits = threads.submit(scheduler.complete, replace(own[0], session="s", cancelled=cancelled))
        while not scheduler._waiting:  # pyright: ignore[reportPrivateUsage]
            time.sleep(0.001)
        together = list(threads.map(scheduler.complete, own))
        assert waits.result(30).finish == "cancelled"
    assert [c.token_ids for c in together] == [engine_of(llama).complete(one).token_ids for one in own]
    assert engine._caches.bytes <= budget  # pyright: ignore[reportPrivateUsage]
    assert max(held) <= budget
    assert len(network.passes[0]) == 1
    assert max(len(rows) for rows in network.passes) == 2


def test_a_cache_larger_than_the_budget_serves_the_next_step_of_its_session(llama: LoadedModel) -> None:
    [one] = requests(llama, 1)
    engine = engine_of(llama, cache_bytes=1)
    with Scheduler(engine) as scheduler:
        scheduler.complete(one)
        assert scheduler.complete(one).usage.cached == len(one.ids)
    for _ in range(2):
        assert engine.complete(one).usage.cached == len(one.ids)


@contextmanager
def lined_up(
    scheduler: Scheduler, running: Request, own: Sequence[Request], then: Callable[[], object] = lambda: None
) -> Generator[list[str]]:
    """While one request is held between two tokens, the others arrive in this order, and after them what `then` asks;
    gives the order they begin in."""
    held, release = threading.Event(), threading.Event()
    began: list[str] = []

    def hold(_: str) -> None:
        held.set()
        release.wait(60)

    def begin(session: str, _: str) -> None:
        if session not in began:
            began.append(session)

    with ThreadPoolExecutor(1 + len(own)) as threads:
        first = threads.submit(scheduler.complete, replace(running, on_text=hold))
        assert held.wait(60)
        asked: list[Future[Completion]] = []
        for one in own:
            asked.append(threads.submit(scheduler.complete, replace(one, on_text=partial(begin, one.session))))
            while scheduler._arrivals.qsize() < len(asked):  # pyright: ignore[reportPrivateUsage]
                time.sleep(0.001)
        then()
        release.set()
        for each in [first, *asked]:
            assert each.result(60).text
        yield began


def test_who_comes_first_is_served_first(loaded: LoadedModel) -> None:
    first, *own = requests(loaded, 6)
    own = [own[n] for n in (2, 0, 4, 1, 3)]
    with Scheduler(engine_of(loaded), rows=1) as scheduler, lined_up(scheduler, first, own) as began:
        assert began == [one.session for one in own]


def test_small_requests_do_not_overtake_a_large_one_for_ever(loaded: LoadedModel) -> None:
    first, large, *small = requests(loaded, 6)
    large = replace(large, max_tokens=400)
    small = [replace(one, max_tokens=20) for one in small]
    probe = engine_of(loaded)
    probe.complete(first)
    per_token = probe._caches.bytes_per_token  # pyright: ignore
    sizes = {one.session: positions(one) for one in (first, large, *small)}
    room = sizes[large.session] + sizes[first.session] - 1  # both do not fit; each fits with a small one
    assert all(sizes[one.session] + sizes[first.session] <= room for one in small)
    with Scheduler(engine_of(loaded, cache_bytes=per_token * room)) as scheduler:
        scheduler.complete(small[0])  # what a token takes is known from the first
        with lined_up(scheduler, first, [large, *small]) as began:
            assert began[0] == large.session


def test_a_request_that_cannot_begin_fails_alone(loaded: LoadedModel) -> None:
    good, bad = requests(loaded, 2)
    with Scheduler(engine_of(loaded)) as scheduler, ThreadPoolExecutor(2) as threads:
        failed = threads.submit(scheduler.complete, replace(bad, ids=[1] * 9000))
        assert threads.submit(scheduler.complete, good).result(30).text
        with pytest.raises(WhetstoneError, match="9000 tokens"):
            failed.result(30)


def test_a_closed_scheduler_has_finished_what_was_asked_and_takes_no_more(loaded: LoadedModel) -> None:
    own = requests(loaded, 3)
    scheduler = Scheduler(engine_of(loaded))
    with ThreadPoolExecutor(3) as threads:
        begun = threading.Event()
        futures = [threads.submit(scheduler.complete, replace(one, on_text=lambda _: begun.set())) for one in own[:1]]
        assert begun.wait(30)
        scheduler.close()
        assert futures[0].result(1).text
    scheduler.close()
    with pytest.raises(WhetstoneError, match="closed"):
        scheduler.complete(own[1])


@pytest.mark.parametrize("why", ["time", "cancelled"])
def test_a_request_that_waits_hears_its_deadline_and_its_cancellation(llama: LoadedModel, why: str) -> None:
    first, second, third = requests(llama, 3)
    joined, release = threading.Event(), threading.Event()
    engine = engine_of(llama)

    def hold(_: str) -> None:
        joined.set()
        release.wait(0.05)

    with Scheduler(engine, rows=1) as scheduler, ThreadPoolExecutor(3) as threads:
        running = threads.submit(scheduler.complete, replace(first, on_text=hold))
        assert joined.wait(30)
        soon = time.monotonic() + 0.1
        late = replace(second, **{"time": {"deadline": soon}, "cancelled": {"cancelled": lambda: True}}[why])  # type: ignore[arg-type]
        waits = threads.submit(scheduler.complete, late)
        other = threads.submit(scheduler.complete, third)
        completion = waits.result(30)
        assert not running.done(), "it did not wait for a free row"
        release.set()
        assert running.result(30).token_ids == engine_of(llama).complete(first).token_ids
        assert other.result(30).token_ids == engine_of(llama).complete(third).token_ids
    assert completion.finish == why
    assert not any(completion.sampled)
    validate(json.loads(completion.text), dict(late.schema))
    assert engine.holds(second.session) == 0


def test_a_session_is_forgotten_after_what_was_asked_for_it_before(llama: LoadedModel) -> None:
    first, second = requests(llama, 2)
    engine = engine_of(llama)
    with Scheduler(engine, rows=1) as scheduler:
        with lined_up(scheduler, first, [second], then=lambda: scheduler.forget(second.session)) as began:
            assert began == [second.session]
        assert engine.holds(second.session) == 0
        assert engine.holds(first.session) > 0


@pytest.mark.parametrize("fault", ["follow", "on_text", "cancelled"])
def test_what_one_request_does_wrong_is_told_to_it_alone(llama: LoadedModel, fault: str) -> None:
    good, bad = requests(llama, 2)
    joined = threading.Event()
    calls = 0

    def breaks(*_: object) -> bool:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError("the terminal is gone")
        return False

    if fault == "follow":
        bad = replace(bad, follow="this is no action")
    elif fault == "on_text":
        bad = replace(bad, on_text=breaks)
    else:
        bad = replace(bad, cancelled=breaks)
    engine, network = counting(llama)
    with Scheduler(engine) as scheduler, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(scheduler.complete, replace(good, on_text=lambda _: joined.set() or time.sleep(0.02)))
        assert joined.wait(30)
        error = threads.submit(scheduler.complete, bad).exception(30)
        assert slow.result(30).token_ids == engine_of(llama).complete(good).token_ids
    assert isinstance(error, WhetstoneError if fault == "follow" else OSError)
    assert any(len(rows) == 2 for rows in network.passes), "they did share a pass"


def test_an_error_of_the_engine_itself_is_told_to_all_that_wait(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = requests(llama, 4)
    engine = engine_of(llama)
    scheduler = Scheduler(engine)

    def trim(_: object) -> None:
        while scheduler._arrivals.qsize() < len(others):  # pyright: ignore[reportPrivateUsage]
            time.sleep(0.001)
        raise MemoryError("no memory")

    monkeypatch.setattr(engine, "trim", trim)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(scheduler.complete, one) for one in (first, *others)]
        told = [each.exception(30) for each in asked]
    assert [str(error) for error in told] == ["no memory"] * 4
    with pytest.raises(WhetstoneError, match=r"stopped after an error \(MemoryError\('no memory'\)\)"):
        scheduler.complete(first)
    scheduler.close()
