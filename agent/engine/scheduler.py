"""One engine for many sessions: requests come from many threads and share each forward pass.

Continuous batching (Yu et al. 2022, Orca): a request joins between two tokens of the others and leaves when its action
is done, so nobody waits for the longest of a batch, and a tool that runs in its own session's thread holds nobody up.
What a session gets does not depend on who shares the passes; see `agent/engine/decode.py`.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from agent.engine.decode import Engine, Request
from agent.engine.generation import Generation
from agent.engine.kvcache import SHARE_TOKENS, common_prefix
from agent.types import Completion, WhetstoneError

ROWS = 16


@dataclass(frozen=True)
class _Waiting:
    request: Request
    result: Future[Completion]


class Scheduler:
    """Runs `engine` in a thread of its own, with at most `rows` requests in one forward pass.

    First come, first served. A request waits where the caches of those that run would outgrow `engine.cache_bytes`
    with it, and where one that runs is just reading the beginning they have in common, which is then copied, not read
    twice. `complete` and `forget` may be called from any thread; close it, or use it as a context manager.
    """

    def __init__(self, engine: Engine, *, rows: int = ROWS) -> None:
        self.engine = engine
        self._rows = rows
        self._arrivals: queue.SimpleQueue[_Waiting | str | None] = queue.SimpleQueue()
        self._closed = False
        self._broken_by = ""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def complete(self, request: Request) -> Completion:
        """Decode one action; returns when it is done. Raises what `Engine.complete` raises.

        `request.on_text` and `request.cancelled` are called in the engine's thread. Raises WhetstoneError when the
        scheduler is closed, or when the session has a request under way. An error of the engine itself is raised for
        all that wait, and closes the scheduler.
        """
        result: Future[Completion] = Future()
        with self._lock:
            if self._broken_by:
                raise WhetstoneError(f"the engine stopped after an error ({self._broken_by}): start it again")
            if self._closed:
                raise WhetstoneError("the engine is closed: no more actions can be decoded")
            self._arrivals.put(_Waiting(request, result))
        return result.result()

    def forget(self, session: str) -> None:
        """Drop a session's cache, in its turn."""
        with self._lock:
            if not self._closed:
                self._arrivals.put(session)

    def close(self) -> None:
        """Finish what was asked for, then stop. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._arrivals.put(None)
        self._thread.join()

    def _serve(self) -> None:
        waiting: deque[_Waiting] = deque()
        running: list[tuple[Generation, Future[Completion]]] = []
        try:
            self._decode(waiting, running)
        except BaseException as error:
            # Nobody else would ever answer them.
            with self._lock:
                self._closed, self._broken_by = True, repr(error)
            self._receive_rest(waiting)
            for result in [*(result for _, result in running), *(each.result for each in waiting)]:
                if not result.done():
                    result.set_exception(error)

    def _decode(self, waiting: deque[_Waiting], running: list[tuple[Generation, Future[Completion]]]) -> None:
        import torch

        more = True
        with torch.inference_mode():
            while more or running or waiting:
                if more:
                    more = self._receive(waiting, block=not running and not waiting)
                self._admit(waiting, running)
                if running:
                    self._pass(running)

    def _receive_rest(self, waiting: deque[_Waiting]) -> None:
        while not self._arrivals.empty():
            if isinstance(arrival := self._arrivals.get(), _Waiting):
                waiting.append(arrival)

    def _receive(self, waiting: deque[_Waiting], *, block: bool) -> bool:
        """Take what has arrived; False once nothing will any more."""
        while True:
            try:
                arrival = self._arrivals.get(block=block)
            except queue.Empty:
                return True
            block = False
            if arrival is None:
                return False
            if isinstance(arrival, str):
                self.engine.forget(arrival)
            else:
                waiting.append(arrival)

    def _admit(self, waiting: deque[_Waiting], running: list[tuple[Generation, Future[Completion]]]) -> None:
        while waiting and len(running) < self._rows:
            request, result = waiting[0].request, waiting[0].result
            generations = [generation for generation, _ in running]
            try:
                if generations and (
                    self._being_read(request, generations) or not self.engine.fits(request, generations)
                ):
                    return
                if any(g.request.session == request.session for g in generations):
                    raise WhetstoneError(f"session {request.session} has an action under way: wait for it")
                generation = self.engine.begin(request)
            except BaseException as error:
                waiting.popleft()
                result.set_exception(error)
                continue
            waiting.popleft()
            running.append((generation, result))
            self.engine.trim([generation for generation, _ in running])
            self._settle(running)

    def _being_read(self, request: Request, running: Sequence[Generation]) -> bool:
        """Whether a running request is reading what this one begins with, further than any cache holds it yet."""
        held = self.engine.held(request)
        for generation in running:
            read = len(generation.cache.ids)
            if read < len(generation.prompt):
                shared = common_prefix(generation.prompt, request.ids)
                if shared >= held + SHARE_TOKENS and shared > read:
                    return True
        return False

    def _pass(self, running: list[tuple[Generation, Future[Completion]]]) -> None:
        generations = [generation for generation, _ in running]
        try:
            failed = self.engine.advance(generations)
        except Exception as error:
            # One pass serves all: what broke it (memory, say) is told to each.
            failed = dict.fromkeys(generations, error)
        for generation, result in running:
            if generation in failed:
                self.engine.forget(generation.request.session)
                result.set_exception(failed[generation])
        running[:] = [pair for pair in running if pair[0] not in failed]
        self._settle(running)

    def _settle(self, running: list[tuple[Generation, Future[Completion]]]) -> None:
        for generation, result in running:
            if generation.done:
                try:
                    result.set_result(self.engine.completion(generation))
                except BaseException as error:
                    result.set_exception(error)
        running[:] = [pair for pair in running if not pair[0].done]
