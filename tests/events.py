"""Builds journal events for tests, in the form `docs/journal.md` gives them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from agent.types import Event

HEADER: dict[str, Any] = {
    "schema": 1,
    "goal": {"text": "Count the apples.", "check": None, "answer_schema": None, "tags": []},
    "system": "You are an agent.",
    "policy": {"name": "scripted", "adapter": None},
    "parent": None,
}


class EventLog(list[Event]):
    """A list of events that numbers and times them: one second apart from `start` on."""

    def __init__(self, start: float = 1000.0, **header: Any) -> None:
        super().__init__()
        self._clock: Iterator[float] = itertools.count(start)
        self.add("session", **{**HEADER, **header})

    def add(self, kind: str, **data: Any) -> Event:
        event = Event(len(self), kind, next(self._clock), data)
        self.append(event)
        return event

    def step(
        self,
        tool: str | None = "read_file",
        args: dict[str, Any] | None = None,
        *,
        result: str = "apples: 12",
        status: str = "ok",
        thought: str = "I look.",
        tokens: int = 10,
        token_ids: Sequence[int] = (),
        files: Sequence[str] = (),
    ) -> int:
        """One whole step; returns its number."""
        number = 1 + sum(event.kind == "action" for event in self)
        usage = {"prompt": 100, "cached": 0, "prefilled": 100, "forced": 0, "sampled": tokens}
        text = f'{{"thought": "{thought}", "tool": "{tool}"}}'
        fields = {"step": number, "thought": thought, "tool": tool, "args": args or {}, "text": text}
        self.add("action", **fields, usage=usage, token_ids=list(token_ids), valid=True, finish="stop")
        self.add("observation", step=number, status=status, text=result, origin=f"tool:{tool}", files=list(files))
        return number
