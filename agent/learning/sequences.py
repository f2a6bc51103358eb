"""A session as token sequences: what the runtime's prompt at its last step is in tokens, and the last action after it.

Sessions of a local model with this tokenizer keep the ids that were sampled. An action of a teacher (a script, another
model) has none; it is written as the engine would have written it: compact JSON in the schema's order, the tokens that
the grammar forces found by walking the same grammar, the others the tokenizer's own.

A compaction changes the turns before it, so a session with one is as many sequences as there are stretches between
compactions; the model learns from each action in the sequence that begins as its prompt did, and nowhere else.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from agent.engine.adapter import Lineage
from agent.engine.chat import END_THINK, Chat
from agent.engine.decode import prompt_digest
from agent.engine.grammar import Matcher, Vocabulary
from agent.engine.tokenizer import ModelTokenizer
from agent.journal import Session
from agent.learning.examples import Example
from agent.learning.writing import Unusable, Walk, action_text
from agent.types import JSON, Event, Message, Prompt
from prompts import render, templates_digest

LossOn = Literal["sampled", "actions"]
"""`sampled`: the tokens the model had a choice about; `actions`: those the grammar forces too, and the end of turn."""


@dataclass(frozen=True)
class _Written:
    """An action in tokens; `chosen` has one entry per token, False where the grammar forced it."""

    ids: tuple[int, ...]
    chosen: tuple[bool, ...]


class SessionEncoder:
    """Makes sequences for one base model. `logits` is the width of its output.

    `prompt_tokens` may be asked of any session; `examples` of sessions whose actions are worth learning from.
    """

    def __init__(self, tokenizer: ModelTokenizer, lineage: Lineage, *, logits: int, loss_on: LossOn = "sampled"):
        self._tokenizer = _Remembering(tokenizer.serialized, tokenizer.special, tokenizer.chat_template)
        self._chat = Chat(self._tokenizer)
        self._vocabulary = Vocabulary(tokenizer, logits=logits, end_id=self._chat.end_id)
        self._end_think = self._tokenizer.encode_structure(f"{END_THINK}\n\n")
        self._grammars: dict[str, Matcher] = {}
        self._openings: dict[str, tuple[int, ...]] = {}
        self.lineage = lineage
        self.loss_on: LossOn = loss_on

    def examples(self, session: Session, *, exact: bool = True) -> list[Example]:
        """The sequences of a session, one for each stretch between compactions that holds something to learn.

        `exact` demands that every prompt of a local session is, token for token, the one its journal names; leave it
        off for a session that was redacted. Raises Unusable.
        """
        header = session.header
        exact = exact and header["templates_digest"] == templates_digest()
        events, written = self._written_out(session, exact=exact)
        good = _steps_to_learn(session.events)
        found: list[Example] = []
        for begin, end in _stretches(events):
            actions = [e for e in events[begin:end] if e.kind == "action" and e.data["step"] in written]
            if not actions or not any(e.data["step"] in good for e in actions):
                continue
            ids, loss = self._sequence(events[:end], actions, written, good, exact=exact)
            if not any(loss):
                continue
            found.append(
                Example(
                    tuple(ids),
                    tuple(loss),
                    session.id,
                    session.head,
                    header["goal"]["text"],
                    family=family_of(header["goal"]["tags"]),
                    shared=self._shared(ids, _system(events[:end])),
                )
            )
        return found

    def write(self, action: Mapping[str, JSON], schema: Mapping[str, JSON]) -> tuple[list[int], list[bool]]:
        """The ids of an action (`thought`, `tool`, `args`) with the end of turn, and which of them are not forced.

        Raises Unusable if the grammar of `schema` does not allow it.
        """
        walk = Walk(self._vocabulary, self._tokenizer, self._grammar(schema))
        walk.write(action_text(action, schema))
        return walk.ids, walk.chosen

    def _sequence(
        self,
        events: Sequence[Event],
        actions: Sequence[Event],
        written: Mapping[int, _Written],
        good: set[int],
        *,
        exact: bool,
    ) -> tuple[list[int], list[bool]]:
        """The ids up to and including the last of `actions`, and where the model learns."""
        last = actions[-1]
        before = [e for e in events if e.seq < last.seq]
        messages = render(before).messages
        loss_at: dict[int, _Written] = {}
        places = {m.step: n for n, m in enumerate(messages) if m.role == "assistant"}
        ids: list[int] = []
        for action in actions:
            step = action.data["step"]
            at = len(messages) if action is last else places.get(step)
            if at is None:  # dropped from the prompt, or never answered
                continue
            ids = self._chat.encode(Prompt(messages[:at]))
            if exact and action.data["prompt_digest"] and prompt_digest(ids) != action.data["prompt_digest"]:
                raise Unusable("its prompts cannot be made again as they were")
            if step in good:
                loss_at[len(ids)] = written[step]
        ids += written[last.data["step"]].ids
        loss = [False] * len(ids)
        for start, own in loss_at.items():
            for offset, chosen in enumerate(own.chosen):
                loss[start + offset] = chosen or self.loss_on == "actions"
        return ids, loss

    def _written_out(self, session: Session, *, exact: bool) -> tuple[list[Event], dict[int, _Written]]:
        """The events with the ids of every answered action filled in, and those ids by step."""
        schema, policy = session.header["action_schema"], session.header["policy"]
        answered = {e.data["step"] for e in session.events if e.kind == "observation"}
        events: list[Event] = []
        written: dict[int, _Written] = {}
        for event in session.events:
            if event.kind == "resume":
                schema = event.data.get("action_schema", schema)
                policy = event.data.get("policy", policy)
            elif event.kind == "action":
                own = self._own(event.data, schema, policy)
                event = replace(event, data={**event.data, "token_ids": list(own.ids)})
                if event.data["step"] in answered:
                    written[event.data["step"]] = own
                if not self._same_tokens(policy):
                    event = replace(event, data={**event.data, "prompt_digest": ""})
            events.append(event)
        return events, written

    def _own(self, data: Mapping[str, JSON], schema: Mapping[str, JSON], policy: Mapping[str, JSON]) -> _Written:
        if data["token_ids"] and self._same_tokens(policy):
            return _Written(tuple(data["token_ids"]), tuple(bool(flag) for flag in data["sampled"]))
        thinking: list[int] = []
        if self._chat.thinks:
            thought = self._tokenizer.encode(data["thinking"]) if data["thinking"] else []
            thinking = [*thought, *self._end_think]
        if data["valid"]:
            ids, chosen = self.write({k: data[k] for k in ("thought", "tool", "args")}, schema)
        else:
            ids = [*self._tokenizer.encode(data["text"]), self._chat.end_id]
            chosen = [False] * len(ids)
        learn = bool(data["thinking"])  # an empty think block is the engine's, not the model's
        return _Written((*thinking, *ids), (*[learn] * len(thinking), *chosen))

    def _same_tokens(self, policy: Mapping[str, JSON]) -> bool:
        return (
            policy.get("tokenizer_digest") == self.lineage.tokenizer_digest
            and policy.get("template_digest") == self.lineage.template_digest
        )

    def _grammar(self, schema: Mapping[str, JSON]) -> Matcher:
        key = json.dumps(schema)
        if key not in self._grammars:
            self._grammars[key] = self._vocabulary.matcher(schema)
        return self._grammars[key].copy()

    def _shared(self, ids: Sequence[int], system: str) -> int:
        return _common(ids, self._opening(system))

    def _opening(self, system: str) -> tuple[int, ...]:
        if system in self._openings:
            return self._openings[system]
        one, other = (
            self._chat.encode(Prompt((Message("system", system, "system"), Message("user", text, "goal"))))
            for text in ("a", "7")
        )
        self._openings[system] = tuple(one[: _common(one, other)])
        return self._openings[system]


def family_of(tags: Sequence[str]) -> str:
    """The family named by a `family:` tag, empty without one."""
    return next((tag.removeprefix("family:") for tag in tags if tag.startswith("family:")), "")


def _steps_to_learn(events: Sequence[Event]) -> set[int]:
    """Steps worth imitating: valid, answered with `ok`, and not the repetition of an earlier step with its result."""
    actions = {e.data["step"]: e.data for e in events if e.kind == "action"}
    seen: set[str] = set()
    good: set[int] = set()
    for event in events:
        action = actions.get(event.data["step"]) if event.kind == "observation" else None
        if action is None:
            continue
        pair = json.dumps([action["tool"], action["args"], event.data["status"], event.data["text"]], sort_keys=True)
        if action["valid"] and event.data["status"] == "ok" and pair not in seen:
            good.add(event.data["step"])
        seen.add(pair)
    return good


def _stretches(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Where the prompt only grows: from one event that changes earlier turns up to the next."""
    cuts = [n for n, e in enumerate(events) if e.kind == "compaction" or (e.kind == "resume" and "system" in e.data)]
    bounds = [0, *cuts, len(events)]
    return list(itertools.pairwise(bounds))


def _system(events: Sequence[Event]) -> str:
    system = cast("str", events[0].data["system"])
    for event in events:
        if event.kind == "resume":
            system = event.data.get("system", system)
    return system


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class _Remembering(ModelTokenizer):
    """The same tokenizer; texts met again (system turns, the turns of a session's earlier prompts) cost nothing."""

    def __init__(self, serialized: str, special: Mapping[str, str], chat_template: str | None) -> None:
        super().__init__(serialized, special, chat_template)
        self._known = functools.lru_cache(maxsize=1024)(super().encode)

    def encode(self, text: str) -> list[int]:
        return list(self._known(text))
