"""The loop: prompt, action, approval, tool, observation, until there is an ending.

Whatever can end a session travels one path, `Stop`; whatever can go wrong with an action (not valid, cut short,
refused, failed) travels another, an observation. There is no terminal and no model code here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from agent.actions import ActionParser, action_data
from agent.approval import Approval, refusal_text
from agent.brakes import BudgetClock, failed_actions, fold, nudge_text
from agent.check import Verdict
from agent.journal import Journal, JournalError
from agent.recollection import Recollection
from agent.resume import settle
from agent.sanitize import for_prompt
from agent.types import JSON, Action, Effect, Ending, Event, Goal, Observation, Policy, WhetstoneError
from prompts import plan_compaction, render
from tools.base import Tool, ToolContext

T = TypeVar("T")
_CUT_ENDINGS = {
    "cancelled": (Ending.INTERRUPTED, "stopped by the user while the model was writing an action"),
    "time": (Ending.OUT_OF_TIME, "the time was over while the model was writing an action (--timeout)"),
}


class Stop(Exception):
    """Ends the session: which ending, one sentence why, and the answer if there is one."""

    def __init__(self, ending: Ending, reason: str, answer: JSON = None, verdict: Verdict | None = None) -> None:
        super().__init__(reason)
        self.ending, self.reason, self.answer, self.verdict = ending, reason, answer, verdict


@dataclass
class Loop:
    """One session being driven. `events` is all that was logged so far, and what everything else is derived from."""

    goal: Goal
    journal: Journal
    events: list[Event]
    policy: Policy
    tools: Mapping[str, Tool]
    schema: Mapping[str, JSON]
    context: Callable[[int], ToolContext]
    approval: Approval
    memory: Recollection | None
    verify: Callable[[JSON], Verdict] | None
    on_event: Callable[[Event], None]
    on_text: Callable[[str], None]
    interrupted: Callable[[], bool]
    notices: Sequence[str] = ()
    """What a person should know before the first step, one sentence each."""
    _counts: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        spent, self._brake = fold(self.events)
        self._clock = BudgetClock(self.goal.budget, spent)
        self._parser = ActionParser(self.schema)

    def run(self) -> Event:
        """Step until something ends the session; returns its `end` event."""
        try:
            for text in self.notices:
                self.notice(text)
            settle(self)
            while True:
                self._step(1 + sum(event.kind == "action" for event in self.events))
        except Stop as stop:
            return self._end(stop)
        except WhetstoneError as error:
            return self._end(Stop(Ending.ERROR, str(error)))
        except Exception as error:  # a defect of ours or of a library: an ending too, and then a report
            self._end(Stop(Ending.ERROR, f"an unexpected error stopped the session: {type(error).__name__}: {error}"))
            raise

    def notice(self, text: str) -> None:
        """Log one sentence that a person should know."""
        self._log("notice", {"text": text})

    def _step(self, number: int) -> None:
        if self.interrupted():
            raise Stop(Ending.INTERRUPTED, "stopped by the user between two steps")
        if over := self._clock.exhausted():
            raise Stop(*over)
        self._recall(number)
        self._compact(number)
        completion = self.policy.act(
            render(self.events),
            self.schema,
            step=number,
            max_tokens=min(self.goal.budget.action_tokens, self._clock.tokens_left),
            deadline=self._clock.deadline,
            on_text=self.on_text,
            cancelled=self.interrupted,
            avoid=failed_actions(self.events),
        )
        action = self._parser.parse_completion(completion)
        self._log("action", {"step": number, **action_data(completion, action)})
        if isinstance(action, Action):
            self.observe(number, self.dispatch(number, action))
        else:
            self.observe(number, Observation("invalid", action, "runtime"))
            if completion.finish in _CUT_ENDINGS:
                raise Stop(*_CUT_ENDINGS[completion.finish])

    def _recall(self, number: int) -> None:
        if any(e.kind == "recall" and e.data["step"] == number for e in self.events):
            return  # resumed after the recall and before the action
        offer = self._with_memory(lambda memory: memory.offer(self.goal.text, self.events))
        if offer:
            self._log("recall", {"step": number, **offer})

    def _compact(self, number: int) -> None:
        limit = self.policy.context_tokens - self.goal.budget.action_tokens
        plan = plan_compaction(self.events, self._count, limit)
        if plan is not None and plan.tokens_after > limit:
            why = f"the prompt needs {plan.tokens_after} tokens and the model's context leaves {limit} for it"
            raise Stop(Ending.ERROR, f"{why}: shorten the goal, or use a model with a longer context")
        if plan is not None:
            self._log("compaction", {"step": number, **asdict(plan)})

    def dispatch(self, number: int, action: Action) -> Observation:
        """Ask for approval, then run the tool. On disk before it runs: the action (the intent) and the approval."""
        tool = self.tools[action.tool]
        asked = time.monotonic()
        decision = self.approval.decide(action, tool.effects, tool.main_argument)
        self._clock.started += time.monotonic() - asked  # a person's thinking is not the agent's time
        self._log("approval", {"step": number, **decision.as_data()}, durable=not tool.effects <= {Effect.READS})
        if decision.allowed:
            return tool.call(self.context(number), action.args)
        return Observation("refused", refusal_text(decision), "runtime")

    def observe(self, number: int, observation: Observation) -> None:
        """Log what came back, and stop where it ends the session. Raises Stop."""
        data = asdict(observation) | {"text": for_prompt(observation.text), "files": list(observation.files)}
        strike = self._log("observation", {"step": number, **data}, durable=True)
        if observation.ends:
            self.finish(observation.value)
        if observation.status == "refused" and self.approval.headless:
            raise Stop(Ending.DENIED, f"{observation.text} Nobody is there to ask: see --yes and --approve")
        if strike and not self._brake.nudged:
            self._log("nudge", {"step": number, "text": nudge_text(strike), "reason": strike})
        elif strike and self._brake.stuck:
            raise Stop(Ending.STUCK, f"no progress after a nudge: {strike}")

    def finish(self, answer: JSON) -> None:
        """The agent says it is done: verify that. Always raises Stop."""
        try:
            verdict = None if self.verify is None else self.verify(answer)
        except WhetstoneError as error:
            raise Stop(Ending.ERROR, str(error), answer) from error
        if verdict is not None and not verdict.passed:
            raise Stop(Ending.FAILED_CHECK, f"the check failed: {verdict.detail}", answer, verdict)
        raise Stop(Ending.FINISHED, "the agent finished", answer, verdict)

    def _end(self, stop: Stop) -> Event:
        data = {
            "ending": stop.ending.value,
            "answer": stop.answer,
            "check": None if stop.verdict is None else stop.verdict.as_data(),
            "session": self.journal.id,
            "steps": self._clock.spent.steps,
            "tokens": self._clock.spent.tokens,
            "seconds": round(self._clock.seconds, 3),
            "reason": stop.reason,
            "files": sorted({f for e in self.events if e.kind == "observation" for f in e.data["files"]}),
        }
        try:
            self._log("end", data, durable=True)
        except JournalError as error:  # the disk is full: the ending is still told, though not logged
            reason = stop.reason if stop.reason == str(error) else f"{stop.reason}; {error}"
            self.events.append(
                Event(len(self.events), "end", time.time(), {**data, "ending": "error", "reason": reason})
            )
            self.on_event(self.events[-1])
        return next(event for event in reversed(self.events) if event.kind == "end")

    def _log(self, kind: str, data: Mapping[str, JSON], *, durable: bool = False) -> str | None:
        """Append an event and let everything that follows the log take it in; returns the brake's strike, if any."""
        event = self.journal.append(kind, data, durable=durable)
        self.events.append(event)
        self._clock.spent.feed(event)
        strike = self._brake.feed(event)
        self.on_event(event)
        self._with_memory(lambda memory: memory.take(event))
        return strike

    def _with_memory(self, work: Callable[[Recollection], T]) -> T | None:
        """Memory is derived from the journals, so a session goes on without it, and says so."""
        if self.memory is None:
            return None
        try:
            return work(self.memory)
        except WhetstoneError as error:
            self.memory = None
            if self.events[-1].kind == "end":
                return None  # nothing comes after an ending; a rebuild of the index makes up for it
            self.notice(f"memory is off for the rest of this session: {error}")
            return None

    def _count(self, text: str) -> int:
        if text not in self._counts:
            self._counts[text] = self.policy.count(text)
        return self._counts[text]
