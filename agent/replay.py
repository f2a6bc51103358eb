"""Driving a session again from its journal, and finding the first step at which it departs from it.

Each recorded prompt is rendered from the recorded events before it, so what came back from tools is fed in as it was
logged, and the policy writes each action anew with the recorded seed. Three things are compared, in this order: the
prompt's token ids (their digest), the generated token ids, and for policies without tokens the text.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agent.brakes import failed_actions, fold
from agent.policies.recorded import CUT_SHORT
from agent.types import JSON, Completion, Event, Policy, Prompt
from prompts import render


@runtime_checkable
class Scorer(Protocol):
    """A policy that can tell how probable a given action would have been."""

    def score(self, prompt: Prompt, schema: Mapping[str, JSON], text: str) -> float | None:
        """Natural log of the probability of `text`; None where the policy could never have written it."""
        ...


@dataclass(frozen=True)
class Departure:
    """Where a replay left its log. `token` is the index in the action's tokens, None where the prompt departed."""

    step: int
    token: int | None
    what: str
    """One sentence."""


@dataclass(frozen=True)
class ReplayedStep:
    """One action written again. `agrees` if the same tokens (or text) came out."""

    step: int
    agrees: bool
    recorded: str
    replayed: str
    departure: Departure | None
    logprob: float | None = None
    """Natural log of the probability that the policy gives the recorded action, where it can tell."""


def replay(
    events: Sequence[Event],
    policy: Policy,
    *,
    same_model: bool = True,
    on_step: Callable[[ReplayedStep], None] = lambda step: None,
) -> list[ReplayedStep]:
    """Write every action of `events` again and compare.

    With `same_model` false the prompts' digests are not compared (another tokenizer has other ids), nor are token ids:
    the texts are. Raises WhetstoneError if the policy cannot answer.
    """
    budget, schema = events[0].data["goal"]["budget"], events[0].data["action_schema"]
    found: list[ReplayedStep] = []
    for position, event in enumerate(events):
        if event.kind == "resume":
            budget, schema = event.data["budget"], event.data.get("action_schema", schema)
        if event.kind != "action" or event.data["finish"] in CUT_SHORT:
            continue  # cut off by a clock or a person: there is nothing to reproduce
        past = events[:position]
        left = budget["tokens"] - fold(past)[0].tokens
        completion = policy.act(
            render(past),
            schema,
            step=event.data["step"],
            max_tokens=min(budget["action_tokens"], left),
            deadline=time.monotonic() + 86_400,
            on_text=lambda piece: None,
            cancelled=lambda: False,
            avoid=failed_actions(past),
        )
        departure = _compare(event, completion, same_model=same_model)
        logprob = None
        if not same_model and isinstance(policy, Scorer):
            logprob = policy.score(render(past), schema, event.data["text"])
        replayed = ReplayedStep(
            event.data["step"], departure is None, event.data["text"], completion.text, departure, logprob
        )
        found.append(replayed)
        on_step(replayed)
    return found


def compare_results(recorded: Sequence[Event], repeated: Sequence[Event]) -> Departure | None:
    """The first step whose observation differs between a session and a repetition of it, or that is missing."""
    for before, after in itertools.zip_longest(_results(recorded), _results(repeated)):
        if before is None or after is None:
            step = (before or after or {})["step"]
            return Departure(step, None, f"step {step} is only in the {'repetition' if before is None else 'log'}")
        for field in ("status", "text"):
            was, now = before[field], after[field]
            if was != now:
                return Departure(before["step"], None, f"the result's {field} was {was[:80]!r} and is {now[:80]!r}")
    return None


def _results(events: Sequence[Event]) -> list[Mapping[str, JSON]]:
    """What came back, step by step, without the steps that were cut short."""
    cut = {e.data["step"] for e in events if e.kind == "action" and e.data["finish"] in CUT_SHORT}
    return [e.data for e in events if e.kind == "observation" and e.data["step"] not in cut]


def _compare(event: Event, completion: Completion, *, same_model: bool) -> Departure | None:
    step, recorded = event.data["step"], event.data
    if not same_model or not recorded["token_ids"]:
        if recorded["text"] == completion.text:
            return None
        at = next(
            (i for i, (a, b) in enumerate(zip(recorded["text"], completion.text, strict=False)) if a != b),
            min(len(recorded["text"]), len(completion.text)),
        )
        was, now = recorded["text"][at : at + 20], completion.text[at : at + 20]
        return Departure(step, None, f"the text departs at character {at}: recorded {was!r}, now {now!r}")
    if recorded["prompt_digest"] != completion.prompt_digest:
        return Departure(step, None, "the prompt is not the one that was recorded: its templates or an event changed")
    before, after = recorded["token_ids"], list(completion.token_ids)
    if before == after:
        return None
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return Departure(
        step,
        at,
        f"token {at} was {_token(before, recorded['logprobs'], at)}"
        f" and is {_token(after, list(completion.logprobs), at)}",
    )


def _token(ids: Sequence[int], logprobs: Sequence[float], at: int) -> str:
    if at >= len(ids):
        return "the end"
    return f"{ids[at]} (probability {math.exp(logprobs[at]):.4f})" if at < len(logprobs) else str(ids[at])
