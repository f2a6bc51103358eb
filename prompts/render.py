"""Events in, chat out. `render` is a pure function of a session's events, and append-only: rendering more events
gives the same messages followed by new ones (until a `compaction` event says otherwise), so that a KV cache built for
one step serves the next.

A step adds two turns: the assistant's action, and a user turn with what came back. What memory offers for a step goes
into the user turn before it and stays there, so the turns before never change.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from agent.types import Event, Message, Prompt, ago

if TYPE_CHECKING:
    import jinja2

SHORT_CHARS = 100
"""How much of an observation is left after compaction."""

MOST_NAMES = 12
"""How many file names of a goal are repeated below it."""
_NAME = re.compile(
    r"(?<![\w@./:~-])(?:(?:\.{0,2}/)?(?:[\w-]+/)*\.?\w[\w.-]*\.(?:[A-Za-z]\w{1,4}|[chrR])|\.[a-z]\w+)(?![\w/@-])"
)
"""A path that ends in a file's extension, or a hidden file; no e-mail address, no number."""


def render(events: Iterable[Event]) -> Prompt:
    """The prompt for the step after the last of `events`. The first event must be `session`."""
    steps: dict[int, dict[str, Event]] = {}
    shortened: set[int] = set()
    dropped: set[int] = set()
    header: Event | None = None
    system = ""
    for event in events:
        if event.kind == "session":
            header, system = event, event.data["system"]
        elif event.kind == "resume":
            system = event.data.get("system", system)
        elif event.kind == "compaction":
            shortened.update(event.data["steps"])
            dropped.update(event.data.get("dropped", ()))
        elif event.kind in ("recall", "action", "observation", "nudge"):
            steps.setdefault(event.data["step"], {})[event.kind] = event
    if header is None:
        raise ValueError("the first event of a session must be `session`")
    goal = header.data["goal"]
    first = _turn(
        "first", goal=goal, names=_names(goal["text"]), dropped=len(dropped), recalled=_recalled(steps.get(1, {}))
    )
    messages = [Message("system", system, "system"), Message("user", first, "goal", step=1)]
    for number in sorted(steps):
        events_of = steps[number]
        action, observation = events_of.get("action"), events_of.get("observation")
        if number in dropped or action is None or observation is None:
            continue
        ids = tuple(action.data["token_ids"]) or None
        messages.append(Message("assistant", action.data["text"], "history", number, ids))
        result = _turn(
            "result",
            observation=_shown(observation.data, short=number in shortened),
            nudge=events_of["nudge"].data["text"] if "nudge" in events_of else None,
            recalled=_recalled(steps.get(number + 1, {})),
        )
        messages.append(Message("user", result, "history", number))
    return Prompt(tuple(messages))


def system_text(*, tools: str, autonomy: str = "") -> str:
    """The system turn: role, rules, the tools in one line each, a worked example. Recorded in the session's header."""
    return _turn("system", tools=tools, autonomy=autonomy)


def templates_digest() -> str:
    """sha256 hex over all templates, for the journal's header."""
    digest = hashlib.sha256()
    for name in ("system", "first", "result", "_recalled"):
        digest.update(_source(name).encode())
    return digest.hexdigest()


def names_in(goal: str) -> list[str]:
    """The file names that a goal holds, each once."""
    return list(dict.fromkeys(match.group() for match in _NAME.finditer(goal)))


def _names(goal: str) -> str:
    """The first file names that a goal holds, as a JSON list; empty if there are none.

    A tokenizer splits a word in another way after a blank than after a quote: " donations" is one token, "donations in
    a JSON string two. In the list the names are in the tokens that an action needs, so that a small model copies them
    where it would have to spell them.
    """
    found = names_in(goal)[:MOST_NAMES]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")) if found else ""


def _shown(observation: Mapping[str, Any], *, short: bool) -> dict[str, Any]:
    text = observation["text"]
    if not short or len(text) <= SHORT_CHARS:
        return {"status": observation["status"], "text": text, "cut": 0}
    first_line = text.strip().split("\n", 1)[0][:SHORT_CHARS]
    return {"status": observation["status"], "text": first_line, "cut": len(text) - len(first_line)}


def _recalled(events_of: Mapping[str, Event]) -> list[dict[str, str]]:
    """What memory offered: where each record is from, how old it was then, and its words in quotes, on one line."""
    event = events_of.get("recall")
    if event is None:
        return []
    return [
        {
            "source": ", ".join((f"{record['kind']} from {record['origin']}", *_age(event.time, record))),
            "text": json.dumps(" ".join(record["text"].split()), ensure_ascii=False),  # no record can end its quotes
        }
        for record in event.data["records"]
    ]


def _age(now: float, record: Mapping[str, Any]) -> tuple[str, ...]:
    """How long before `now` (Unix time) a record was made; nothing for a recall that was logged without times."""
    return (ago(now - record["created"]),) if "created" in record else ()


def _turn(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values).strip()


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    loader = jinja2.FunctionLoader(_source)
    return jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )


def _source(name: str) -> str:
    return resources.files("prompts").joinpath(f"templates/{name}.j2").read_text(encoding="utf-8")
