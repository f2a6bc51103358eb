"""What stops a session that should not go on: budgets, and the no-progress brake.

Both are folds over the session's events and nothing else. A resumed session therefore has the budget that was left,
and since counts only ever grow over the whole session, neither alternating between two useless actions nor a
compaction of the prompt can reset the brake.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.types import Action, Budget, Effect, Ending, Event

REPEATS = 3
"""The same action with the same result this often is no progress."""
SAME_ACTION = 6
"""The same action this often is no progress, whatever came back (a result with a clock in it always differs)."""
ERRORS = 4
"""This many results in a row that are not `ok` are no progress."""
EMPTY_THOUGHTS = 4
"""This many blank thoughts in a row are no progress."""
PATIENCE = 2
"""Strikes after the nudge until the session ends as stuck."""


@dataclass
class Spent:
    """What a session has used so far, over all its runs."""

    steps: int = 0
    tokens: int = 0
    seconds_before: float = 0.0
    """Active seconds of earlier runs of the session, without the gaps between them."""
    _run_started: float = 0.0
    _last: float = 0.0

    def feed(self, event: Event) -> None:
        if event.kind in ("session", "resume"):
            self.seconds_before += max(0.0, self._last - self._run_started)
            self._run_started = event.time
        self._last = event.time
        if event.kind == "action":
            usage = event.data["usage"]
            self.steps += 1
            self.tokens += usage["forced"] + usage["sampled"]


@dataclass
class BudgetClock:
    """A budget and what of it is left. `started` is when this run of the session began (`time.monotonic()`)."""

    budget: Budget
    spent: Spent
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Active seconds of the session so far."""
        return self.spent.seconds_before + time.monotonic() - self.started

    @property
    def deadline(self) -> float:
        """When the time is over, in `time.monotonic()` seconds."""
        return self.started + self.budget.seconds - self.spent.seconds_before

    @property
    def tokens_left(self) -> int:
        return self.budget.tokens - self.spent.tokens

    def exhausted(self) -> tuple[Ending, str] | None:
        """The ending and a sentence, if nothing is left of one of the limits."""
        if self.spent.steps >= self.budget.steps:
            return Ending.OUT_OF_STEPS, f"the limit of {self.budget.steps} steps is reached (--max-steps)"
        if self.tokens_left <= 0:
            return Ending.OUT_OF_TOKENS, f"the limit of {self.budget.tokens} generated tokens is reached (--max-tokens)"
        if time.monotonic() >= self.deadline:
            return Ending.OUT_OF_TIME, f"the limit of {self.budget.seconds:g} seconds is reached (--timeout)"
        return None


@dataclass
class NoProgressBrake:
    """Counts signs of no progress. The first strike asks for a nudge, PATIENCE more end the session as stuck."""

    pairs: Counter[str] = field(default_factory=Counter[str])
    actions: Counter[str] = field(default_factory=Counter[str])
    errors: int = 0
    empty: int = 0
    nudged: bool = False
    strikes: int = 0
    _action: Event | None = None

    def feed(self, event: Event) -> str | None:
        """Take in the next event; a sentence that says what is wrong if it is a strike, else None."""
        if event.kind == "nudge":
            self.nudged, self.strikes = True, 0
        elif event.kind == "resume":
            self.strikes = 0  # a person wants it to go on
        elif event.kind == "action":
            self._action = event
        elif event.kind == "observation" and self._action is not None:
            reason = self._judge(self._action, event)
            self._action = None
            if reason:
                self.strikes += 1
            return reason
        return None

    @property
    def stuck(self) -> bool:
        return self.nudged and self.strikes >= PATIENCE

    def _judge(self, action: Event, observation: Event) -> str | None:
        tool, args = action.data["tool"], action.data["args"]
        what = _digest([tool, args, action.data["text"] if tool is None else None])
        pair = _digest([what, observation.data["status"], observation.data["text"]])
        self.actions[what] += 1
        self.pairs[pair] += 1
        self.errors = 0 if observation.data["status"] == "ok" else self.errors + 1
        self.empty = self.empty + 1 if not (action.data["thought"] or "").strip() else 0
        name = tool or "an invalid action"
        if self.pairs[pair] >= (2 if self.nudged else REPEATS):
            return f"{name} with the same arguments gave the same result {self.pairs[pair]} times"
        if self.actions[what] >= SAME_ACTION:
            return f"{name} was called {self.actions[what]} times with the same arguments"
        if self.errors >= ERRORS:
            return f"{self.errors} results in a row were not ok"
        if self.empty >= EMPTY_THOUGHTS:
            return f"{self.empty} thoughts in a row were empty"
        return None


def nudge_text(reason: str) -> str:
    """What the model is told, once, when the brake first bites."""
    return (
        f"{reason[0].upper()}{reason[1:]}. That makes no progress. Do something different now: another tool or other"
        " arguments, or use finish and say what you know or why it cannot be done."
    )


def fold(events: Iterable[Event]) -> tuple[Spent, NoProgressBrake]:
    """Both brakes as they stand after `events`."""
    spent, brake = Spent(), NoProgressBrake()
    for event in events:
        spent.feed(event)
        brake.feed(event)
    return spent, brake


def failed_actions(events: Iterable[Event]) -> tuple[Action, ...]:
    """What failed or was refused and would again: nothing was changed since, and nobody resumed the session."""
    failed: list[Action] = []
    readers: set[str] = set()
    action: Action | None = None
    for event in events:
        data = event.data
        if event.kind == "session":
            readers = {tool["name"] for tool in data.get("tools", ()) if set(tool["effects"]) <= {Effect.READS.value}}
        elif event.kind == "action":
            action = Action(data["thought"], data["tool"], data["args"]) if data["tool"] else None
        elif event.kind == "resume":
            failed.clear()
        elif event.kind == "observation" and action is not None:
            if data["status"] in ("error", "refused"):
                failed.append(action)
            again = any((one.tool, one.args) == (action.tool, action.args) for one in failed)
            if data["files"] or (data["status"] == "ok" and (action.tool not in readers or again)):
                failed.clear()
    return tuple(failed)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
