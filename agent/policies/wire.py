"""One request to a model server: what came back, what may go away by itself, how long to pause."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from agent.types import WhetstoneError

if TYPE_CHECKING:
    import httpx
    import tenacity

READ_SECONDS = 180.0
LONGEST_PAUSE_SECONDS = 20.0
MAX_MESSAGE_CHARS = 300

Finish = Literal["stop", "length", "time", "cancelled"]


class ServerRefused(WhetstoneError):
    """The server understood the request and will not do it (a 4xx that does not go away)."""


@dataclass(frozen=True)
class Reply:
    """What came back. `wasted` are tokens that earlier attempts at the same request had already generated."""

    text: str
    reasoning: str = ""
    finish: Finish = "stop"
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pieces: int = 0
    """Chunks of text, about as many as tokens."""
    wasted: int = 0


class Transient(Exception):
    """Something that may go away by itself.

    `retry_after` is in seconds, where the server said so; `answered` is True where it answered at all.
    """

    def __init__(self, said: str, retry_after: float | None = None, *, answered: bool = False) -> None:
        super().__init__(said)
        self.retry_after = retry_after
        self.answered = answered


class Stopped(Exception):
    """The session's time is over, or the user stopped it."""

    def __init__(self, finish: Finish) -> None:
        super().__init__(finish)
        self.finish: Finish = finish


class Attempt:
    """What all attempts at one request share: its limits, and what of the text was told already."""

    def __init__(
        self, deadline: float, cancelled: Callable[[], bool], on_text: Callable[[str], None], *, chars: int
    ) -> None:
        self._deadline, self._cancelled, self._on_text = deadline, cancelled, on_text
        self._told = 0
        self._text = ""
        self._room = chars
        self.pieces = 0
        self.wasted = 0

    def begin(self) -> None:
        self.check()
        self.wasted += self.pieces
        self._text, self.pieces = "", 0

    def take(self, piece: str) -> None:
        """Note a piece of text; the person who watches is told each place of it once. Raises Stopped."""
        self._text += piece
        self.pieces += 1
        if len(self._text) > self._told:
            self._on_text(self._text[self._told :])
            self._told = len(self._text)
        if len(self._text) > self._room:
            raise Stopped("length")
        self.check()

    def check(self) -> None:
        if self._cancelled():
            raise Stopped("cancelled")
        if time.monotonic() >= self._deadline:
            raise Stopped("time")

    def read_seconds(self) -> float:
        return max(0.05, min(READ_SECONDS, self._deadline - time.monotonic()))

    def sleep(self, seconds: float) -> None:
        """A pause between two attempts, which ends where the session does."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.1))


def streamed_reply(lines: Iterator[str], attempt: Attempt) -> Reply:
    """Read server-sent events to their end. Raises Transient when they stop before it, Stopped at a limit."""
    text, reasoning, finish = "", "", ""
    usage: dict[str, Any] = {}
    try:
        for line in lines:
            attempt.check()
            if not line.startswith("data:"):
                continue
            payload = line.removeprefix("data:").strip()
            if payload == "[DONE]":
                break
            event = json.loads(payload)
            if event.get("error"):
                raise Transient(f"an error: {str(event['error'])[:MAX_MESSAGE_CHARS]}")
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
                if piece := delta.get("content"):
                    text += piece
                    attempt.take(piece)
                finish = choice.get("finish_reason") or finish
    except Stopped as stopped:
        return Reply(text, reasoning, stopped.finish, usage, attempt.pieces)
    except (ValueError, TypeError, AttributeError) as error:
        raise Transient("a broken event") from error
    if not finish:
        raise Transient("the connection was dropped")
    return Reply(text, reasoning, "length" if finish == "length" else "stop", usage, attempt.pieces)


def whole_reply(answer: Mapping[str, Any]) -> Reply:
    """The reply of a server that does not stream."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        reasoning = message.get("reasoning_content") or ""
        return Reply(message["content"] or "", reasoning, finish, answer.get("usage") or {}, 1)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Transient("an answer without a message") from error


def pause(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: what the server asked for, else twice as long each time, with some jitter."""
    import random

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Transient) and error.retry_after is not None:
        return error.retry_after
    longest = min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(state.attempt_number, 10))
    return longest * random.uniform(0.5, 1.0)


def retry_after_seconds(value: str) -> float | None:
    """Seconds, from a number or from an HTTP date."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def message(response: httpx.Response) -> str:
    try:
        said = response.json()
        found = said.get("error", said) if isinstance(said, dict) else said
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except ValueError:
        text = response.text
    return " ".join(text.split())[:MAX_MESSAGE_CHARS] or "it does not say why"


def named(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:MAX_MESSAGE_CHARS]}" if str(error) else type(error).__name__
