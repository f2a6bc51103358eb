"""A policy that repeats the actions of a recorded session, and may hand over to another policy at some step.

Run through the real loop in a restored workspace it repeats what the session did (`replay --live`); with another policy
behind it, it leads up to a step and lets that policy go on from there (`replay --from STEP`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.types import JSON, Action, Completion, Event, Policy, Prompt, TokenUsage, WhetstoneError

CHARS_PER_TOKEN = 4
CUT_SHORT = ("time", "cancelled")
"""Ways a completion ends that are no part of what a session did: they are left out of a repetition."""


class RecordedPolicy:
    """Plays the actions of `events` before step `until` (all of them by default), then asks `after`.

    Raises WhetstoneError at the first step for which there is neither.
    """

    def __init__(self, events: Sequence[Event], *, until: int | None = None, after: Policy | None = None) -> None:
        actions = [
            e.data
            for e in events
            if e.kind == "action" and (until is None or e.data["step"] < until) and e.data["finish"] not in CUT_SHORT
        ]
        self._actions = dict(enumerate(actions, start=1))
        self._described = events[0].data["policy"]
        self._after = after

    @property
    def context_tokens(self) -> int:
        return 1 << 20 if self._after is None else self._after.context_tokens

    def describe(self) -> Mapping[str, JSON]:
        if self._after is not None:
            return self._after.describe()
        return {**self._described, "kind": "recorded", "actions": len(self._actions)}

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1 if self._after is None else self._after.count(text)

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        if step in self._actions:
            return _completion(self._actions[step])
        if self._after is None:
            raise WhetstoneError(f"the recorded session has no step {step}")
        return self._after.act(
            prompt,
            schema,
            step=step,
            max_tokens=max_tokens,
            deadline=deadline,
            on_text=on_text,
            cancelled=cancelled,
            avoid=avoid,
        )

    def close(self) -> None:
        if self._after is not None:
            self._after.close()


def _completion(recorded: Mapping[str, JSON]) -> Completion:
    return Completion(
        recorded["text"],
        recorded["thinking"],
        recorded["finish"],
        tuple(recorded["token_ids"]),
        tuple(bool(flag) for flag in recorded["sampled"]),
        tuple(recorded["logprobs"]),
        TokenUsage(**recorded["usage"]),
        recorded["prompt_digest"],
        recorded["milliseconds"],
    )
