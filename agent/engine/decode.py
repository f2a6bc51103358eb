"""The engine: prompts in, schema-valid actions out, several at a time.

Every forward pass takes what each running generation has pending: a piece of its prompt, a run of tokens the grammar
forces, or the one token just sampled. A generation that has nothing pending but the end of its turn is done; the
closing braces are never computed, they are read with the next prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from agent.engine.chat import END_THINK
from agent.engine.choosing import choose_along
from agent.engine.generation import Generation, Said
from agent.engine.grammar import Vocabulary
from agent.engine.kvcache import GROWTH_TOKENS, SHARE_TOKENS, CacheStore, KVCache
from agent.engine.network import Network, Row
from agent.engine.prefixes import PrefixFiles
from agent.engine.sampling import Sampling
from agent.engine.threads import threads_for
from agent.engine.tokenizer import ModelTokenizer
from agent.types import JSON, Completion, TokenUsage, WhetstoneError

PREFILL_TOKENS = 256
"""Prompt tokens of one row in one forward pass: between passes the deadline and cancellation are looked at."""
CACHE_BYTES = 2 * 1024**3
PASS_TOKENS = 16
"""Guesses fill a forward pass up to so many tokens, shared by its rows: beyond, a token costs what it may save."""


def _never() -> bool:
    return False


def _ignore(_: str) -> None:
    return


@dataclass(frozen=True)
class Request:
    """One action to be decoded. `ids` is the prompt; `session` names the cache; `deadline` is in monotonic seconds."""

    session: str
    ids: Sequence[int]
    schema: Mapping[str, JSON]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    deadline: float = float("inf")
    on_text: Callable[[str], None] = _ignore
    cancelled: Callable[[], bool] = _never
    thinks: bool = False
    """The prompt ends in an open think block: text is free until it is closed, then the grammar begins."""
    shared: int = 0
    """So many ids at the beginning are the system turn, the same in other sessions; read in passes of their own."""
    follow: str | None = None
    """A text to write instead of choosing: its tokens' log-probabilities are what is wanted."""
    said: Said = ()
    """How the action begins, as far as it is settled; `on_text` is not told of it."""
    barred: frozenset[int] = frozenset()
    """Tokens that the first choice after what is `said` may not be, unless there is no other."""


class Engine:
    """Decodes actions with one network.

    `context_tokens` is the window (None: the model's own), `cache_bytes` what keys and values of all sessions may take,
    `prefill_tokens` how much of a prompt is read at once. `fast_forward=False` computes forced tokens one at a time,
    `drafts=False` makes no guesses ahead (`agent/engine/drafts.py`). `prefixes` keeps system turns between processes.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: ModelTokenizer,
        *,
        end_id: int,
        context_tokens: int | None = None,
        fast_forward: bool = True,
        drafts: bool = True,
        cache_bytes: int = CACHE_BYTES,
        prefill_tokens: int = PREFILL_TOKENS,
        prefixes: PrefixFiles | None = None,
    ) -> None:
        self.network = network
        self.context_tokens = min(context_tokens or network.context_tokens, network.context_tokens)
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer, logits=network.vocabulary, end_id=end_id)
        self._end_think = tokenizer.encode_structure(f"{END_THINK}\n\n")
        self._fast_forward = fast_forward
        self._drafts = drafts
        self._prefill_tokens = prefill_tokens
        self._caches = CacheStore(network.new_cache, cache_bytes)
        self._prefixes = prefixes
        self._threads = threads_for(network)
        self._position_bytes = 0

    def complete(self, request: Request) -> Completion:
        """Decode one action. See `complete_many`."""
        return self.complete_many([request])[0]

    def complete_many(self, requests: Sequence[Request]) -> list[Completion]:
        """Decode one action for each request, all in the same forward passes; results in the order of `requests`.

        What each gets does not depend on the others. Raises WhetstoneError if two requests name one session, if a
        prompt leaves no room in the context, or if the model's output is not a number; and what an `on_text` or
        `cancelled` of theirs raised.
        """
        import torch

        sessions = [request.session for request in requests]
        if len(set(sessions)) < len(sessions):
            raise WhetstoneError("two requests of one batch name the same session: give each its own")
        with torch.inference_mode():
            generations = [self.begin(request) for request in requests]
            self.trim(generations)
            while running := [generation for generation in generations if not generation.done]:
                for error in self.advance(running).values():
                    raise error
                self.trim([g for g in running if not g.done] or running[-1:])
        return [self.completion(generation) for generation in generations]

    def forget(self, session: str) -> None:
        """Drop a session's cache."""
        self._caches.close(session)

    def holds(self, session: str) -> int:
        """Bytes of keys and values held for all sessions, 0 if this one has none."""
        return self._caches.bytes if session in self._caches else 0

    # --- one pass at a time, for those that let requests come and go (`agent/engine/scheduler.py`) ---------------

    def trim(self, in_use: Sequence[Generation]) -> None:
        """Drop caches until their budget holds, the least recently used first; those in use stay."""
        self._position_bytes = self._caches.bytes_per_token or self._position_bytes
        self._caches.trim([generation.request.session for generation in in_use])

    def fits(self, request: Request, running: Sequence[Generation]) -> bool:
        """Whether the buffers of all these, each at its full length, stay within the budget.

        What a position takes is known from the first pass on; until then nothing fits beside what runs.
        """
        self._position_bytes = self._caches.bytes_per_token or self._position_bytes
        if not self._position_bytes:
            return not running
        before = max((generation.cache.before for generation in running), default=0)
        taken = self._most_bytes(request, before)
        for generation in running:
            taken += max(generation.cache.bytes, self._most_bytes(generation.request, before))
        return taken <= self._caches.budget

    def _most_bytes(self, request: Request, before: int) -> int:
        """The largest buffers that `KVCache.write` makes for a request: a full one, with the room it grows by."""
        positions = before + min(len(request.ids) + request.max_tokens, self.context_tokens)
        return (positions + max(GROWTH_TOKENS, positions // 4)) * self._position_bytes

    def held(self, request: Request) -> int:
        """How many tokens of the prompt some cache holds already."""
        return self._caches.held(request.session, request.ids)

    def begin(self, request: Request) -> Generation:
        """Start on a request. Raises WhetstoneError if its prompt leaves no room in the context."""
        generation = self._generation(request)
        wanted = [*generation.prompt, *generation.ids]
        generation.cache = self._caches.open(request.session, wanted, lambda: self._kept(request))
        generation.reused = min(len(generation.cache.ids), len(generation.prompt))
        return generation

    def called_off(self, request: Request) -> Completion | None:
        """The result of a request that was cancelled, or came to its deadline, before it began; None if it may begin.

        As with one that began, its action is closed without the model. Raises what `begin` and `cancelled` raise.
        """
        finish = _called_off(request)
        if finish is None:
            return None
        generation = self._generation(request)
        generation.cache = KVCache(0)
        if not generation.done:
            generation.stop(finish)
        return self.completion(generation)

    def _generation(self, request: Request) -> Generation:
        room = self.context_tokens - len(request.ids)
        if room < 1 or not request.ids:
            raise WhetstoneError(
                f"the prompt has {len(request.ids)} tokens and the model's context {self.context_tokens}:"
                " give fewer tools or shorter goals, or a model with a longer context"
            )
        started = time.monotonic()
        generation = Generation(
            prompt=list(request.ids),
            vocabulary=self.vocabulary,
            schema=request.schema,
            limit=min(request.max_tokens, room),
            end_think=self._end_think if request.thinks else None,
            on_text=request.on_text,
            said=request.said,
        )
        generation.request, generation.started = request, started
        return generation

    def _kept(self, request: Request) -> KVCache | None:
        """What a former process left of the system turn."""
        if self._prefixes is None or request.shared < SHARE_TOKENS:
            return None
        return self._prefixes.read(request.ids[: request.shared])

    def advance(self, running: Sequence[Generation]) -> dict[Generation, BaseException]:
        """One forward pass over what each generation has pending, and one new token for those that are up to date.

        To be called under `torch.inference_mode()`, with generations that are not done. Returns what ended single ones
        for good: their text cannot be written, their `on_text` raised. What the forward pass raises concerns all.
        """
        failed: dict[Generation, BaseException] = {}
        for generation in running:
            with _failing_alone(generation, failed):
                if finish := _called_off(generation.request):
                    generation.stop(finish)
        live = [generation for generation in running if not generation.done and generation not in failed]
        guessed = PASS_TOKENS // max(1, len(live)) - 1
        rows: dict[Generation, Row] = {}
        for generation in live:
            with _failing_alone(generation, failed):
                rows[generation] = self._row(generation, guessed)
        if not rows:
            return failed
        started = time.perf_counter()
        with self._threads:
            logits = self.network.forward(list(rows.values()))
        elapsed = (time.perf_counter() - started) * 1000
        width = sum(row.count for row in rows.values())
        end = 0
        for generation, row in rows.items():
            begin, end = end, end + row.wanted
            reading = row.start < len(generation.prompt)
            generation.milliseconds["prefill" if reading else "decode"] += elapsed * row.count / width
            drafted = row.wanted - 1
            generation.cache.ids += row.ids[: row.count - drafted]
            if not generation.pending:
                with _failing_alone(generation, failed):
                    choose_along(
                        generation, row.ids[row.count - drafted :], logits[begin:end], self.vocabulary, self.tokenizer
                    )
        return failed

    def _row(self, generation: Generation, guessed: int) -> Row:
        """What the next pass reads of this generation: what is pending, and where that ends in a choice, a guess of at
        most `guessed` tokens."""
        ids = self._next_ids(generation)
        if (
            not self._drafts
            or guessed < 1
            or len(ids) < len(generation.pending)
            or generation.request.follow is not None
        ):
            return Row(generation.cache, ids)
        started = time.perf_counter()
        guess = generation.draft(guessed)
        generation.milliseconds["draft"] += (time.perf_counter() - started) * 1000
        return Row(generation.cache, [*ids, *guess], wanted=1 + len(guess))

    def _next_ids(self, generation: Generation) -> list[int]:
        pending = generation.pending
        if self._fast_forward or len(generation.cache.ids) < len(generation.prompt):
            end = min(len(pending), self._prefill_tokens)
            if (opening := generation.request.shared - len(generation.cache.ids)) > 0:
                end = min(end, opening)
            if not self._fast_forward:
                end = min(end, len(generation.prompt) - len(generation.cache.ids))
            return pending[:end]
        return pending[:1]

    def completion(self, g: Generation) -> Completion:
        """The result of a generation that is done."""
        prompt, shared = len(g.prompt), g.request.shared
        if self._prefixes is not None and SHARE_TOKENS <= shared <= len(g.cache.ids):
            self._prefixes.write(g.prompt[:shared], g.cache)
        sampled = sum(g.sampled)
        milliseconds = {**g.milliseconds, "total": (time.monotonic() - g.started) * 1000}
        return Completion(
            text=g.text,
            thinking=g.thinking,
            finish=g.finish,
            token_ids=tuple(g.ids),
            sampled=tuple(g.sampled),
            logprobs=tuple(g.logprobs),
            usage=TokenUsage(
                prompt=prompt,
                cached=g.reused,
                prefilled=prompt - g.reused,
                forced=len(g.ids) - sampled,
                sampled=sampled,
                drafted=g.drafted,
                accepted=g.accepted,
            ),
            prompt_digest=prompt_digest(g.prompt),
            milliseconds={name: round(value, 3) for name, value in milliseconds.items()},
        )


def _called_off(request: Request) -> Literal["cancelled", "time"] | None:
    if request.cancelled():
        return "cancelled"
    return "time" if time.monotonic() >= request.deadline else None


@contextmanager
def _failing_alone(generation: Generation, failed: dict[Generation, BaseException]) -> Generator[None]:
    """What goes wrong in here concerns this generation alone. Rust's panics (the grammar's) are no `Exception`."""
    try:
        yield
    except BaseException as error:
        failed[generation] = error


def prompt_digest(ids: Sequence[int]) -> str:
    """sha256 hex of token ids, each as a little-endian int32."""
    from array import array
    from sys import byteorder

    numbers = array("i", ids)
    if byteorder == "big":
        numbers.byteswap()
    return sha256(numbers.tobytes()).hexdigest()
