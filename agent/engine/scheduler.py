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


@dataclass(eq=False)
class _Asked:
    request: Request
    result: Future[Completion]
    forget: bool = False
    """Its session was given up meanwhile: the cache goes when this is answered."""


@dataclass(eq=False)
class _Running:
    asked: _Asked
    generation: Generation


class Scheduler:
    """Runs `engine` in a thread of its own, with at most `rows` requests in one forward pass.

    First come, first served. A request waits where the caches of those that run would outgrow `engine.cache_bytes`
    with it, and where one that runs is just reading the beginning they have in common, which is then copied, not read
    twice; while it waits its deadline and cancellation are looked at between passes, as when it runs. `complete` and
    `forget` may be called from any thread; close it, or use it as a context manager.
    """

    def __init__(self, engine: Engine, *, rows: int = ROWS) -> None:
        self.engine = engine
        self._rows = rows
        self._arrivals: queue.SimpleQueue[_Asked | str | None] = queue.SimpleQueue()
        self._waiting: deque[_Asked] = deque()
        self._running: list[_Running] = []
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
            self._arrivals.put(_Asked(request, result))
        return result.result()

    def forget(self, session: str) -> None:
        """Drop a session's cache, after what was asked for that session before."""
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

    # --- in the engine's thread -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._decode()
        except BaseException as error:
            # Nobody else would ever answer them.
            with self._lock:
                self._closed, self._broken_by = True, repr(error)
            while not self._arrivals.empty():
                if isinstance(arrival := self._arrivals.get(), _Asked):
                    self._waiting.append(arrival)
            for asked in [*(each.asked for each in self._running), *self._waiting]:
                if not asked.result.done():
                    asked.result.set_exception(error)

    def _decode(self) -> None:
        import torch

        more = True
        with torch.inference_mode():
            while more or self._running or self._waiting:
                if more:
                    more = self._receive(block=not self._running and not self._waiting)
                self._call_off()
                self._admit()
                if self._running:
                    self._pass()

    def _receive(self, *, block: bool) -> bool:
        """Take what has arrived; False once nothing will any more."""
        while True:
            try:
                arrival = self._arrivals.get(block=block)
            except queue.Empty:
                return True
            block = False
            if arrival is None:
                return False
            if isinstance(arrival, _Asked):
                self._waiting.append(arrival)
            else:
                self._forget(arrival)

    def _forget(self, session: str) -> None:
        for asked in [*reversed(self._waiting), *(each.asked for each in self._running)]:
            if asked.request.session == session:
                asked.forget = True
                return
        self.engine.forget(session)

    def _call_off(self) -> None:
        """Answer those that wait and are cancelled or late: a tool or a view of theirs may wait for it."""
        for asked in self._waiting:
            try:
                completion = self.engine.called_off(asked.request)
            except BaseException as error:
                self._answer(asked, error)
            else:
                if completion is not None:
                    self._answer(asked, completion)
        self._waiting = deque(asked for asked in self._waiting if not asked.result.done())

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._rows:
            asked = self._waiting[0]
            request = asked.request
            generations = [each.generation for each in self._running]
            try:
                if generations and (
                    self._being_read(request, generations) or not self.engine.fits(request, generations)
                ):
                    return
                if any(g.request.session == request.session for g in generations):
                    raise WhetstoneError(f"session {request.session} has an action under way: wait for it")
                generation = self.engine.begin(request)
            except BaseException as error:
                self._answer(asked, error)
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            self._running.append(_Running(asked, generation))
            self.engine.trim([each.generation for each in self._running])
            self._settle()

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

    def _pass(self) -> None:
        generations = [each.generation for each in self._running]
        try:
            failed = self.engine.advance(generations)
        except Exception as error:
            # One pass serves all: what broke it (memory, say) is told to each.
            failed = dict.fromkeys(generations, error)
        for each in self._running:
            if each.generation in failed:
                each.asked.forget = True
                self._answer(each.asked, failed[each.generation])
        self._settle()
        # Buffers grew. The cache used last stays even if it is too large alone: the next step goes on from it.
        self.engine.trim([each.generation for each in self._running] or generations[-1:])

    def _settle(self) -> None:
        for each in self._running:
            if each.generation.done and not each.asked.result.done():
                try:
                    outcome = self.engine.completion(each.generation)
                except BaseException as error:
                    outcome = error
                self._answer(each.asked, outcome)
        self._running = [each for each in self._running if not each.asked.result.done()]

    def _answer(self, asked: _Asked, outcome: Completion | BaseException) -> None:
        if asked.forget:
            self.engine.forget(asked.request.session)
        if isinstance(outcome, BaseException):
            asked.result.set_exception(outcome)
        else:
            asked.result.set_result(outcome)
