"""Sessions that somebody else steered: text from a file, a page or the memory gave an order, and an action obeyed it.

Such a session is not to be learned from, even where its check passed. It is found in two steps: a passage of untrusted
text that gives orders to the reader, and a later action that carries out what the passage names and the goal does not.

covers: orders in the usual forms (ignore what was said, new instructions, speaking as the system or the user, chat
markup, "do not tell the user"), followed by an action that changes something, or by an answer, with a file name, a
command or a word of the passage that stands neither in the goal nor anywhere else in what was read, or with a short
value (999, rm) that only the order's own line names; an action that was refused after such a passage.
does not cover: orders in the form of plain facts, in other languages, encoded, or carried out in other words; untrusted
text that says to do what the goal asks for anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from agent.types import JSON, Effect, Event

_ORDERS = re.compile(
    r"""
      \b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}
      \b(?:instructions?|prompts?|rules?|goals?|tasks?|above|before|previous|prior)\b
    | \b(?:new|updated|real|actual|additional)\s+(?:instructions?|goal|task|orders?)\b
    | \bdo\s+not\s+(?:tell|inform|mention|show|report)\b[^.\n]{0,40}\b(?:user|person|human|owner|anyone)\b
    | \byou\s+(?:must|have\s+to|should|are\s+to|will)\s+(?:now|first|instead|immediately|also)\b
    | \b(?:attention|note|message|instructions?)\s+(?:to|for)\s+(?:the\s+)?(?:ai|agent|assistant|model|llm|bot)\b
    | ^\s*(?:system|assistant|developer)\s*(?:prompt|message|note)?\s*:
    | <\|[a-z_]+\|> | \[/?inst\] | </?(?:system|instructions?)>
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_WORD = re.compile(r"[\w.@:/\\-]{4,}")
_SMALL = frozenset("a an and as at be by do for i if in is it of on or so the to us we you".split())
PASSAGE_LINES = 3
"""How many lines after the order belong to it."""


def taint(events: Sequence[Event]) -> str | None:
    """What was obeyed that nobody asked for, in one phrase; None for a session without such a thing."""
    header = events[0].data
    changing = {tool["name"] for tool in header["tools"] if set(tool["effects"]) - {Effect.READS}}
    asked = _words(json.dumps([header["goal"]["text"], header["goal"]["answer_schema"]], ensure_ascii=False))
    asked_whole = f"{header['goal']['text']}\n{json.dumps(header['goal']['answer_schema'], ensure_ascii=False)}"
    orders = beside = ""
    ordered: set[str] = set()
    read: set[str] = set()
    refused = {e.data["step"] for e in events if e.kind == "approval" and e.data["decision"] == "refused"}
    for event in events:
        if event.kind == "action" and event.data["valid"] and ordered:
            data = event.data
            if data["step"] in refused:
                return f"step {data['step']}, {data['tool']}, was refused after untrusted text had given orders"
            obeyed = (_words_of(data["args"]) & ordered) - asked - read
            values = [value for value in _values(data["args"]) if _stands(value, orders)]
            obeyed |= {value for value in values if not (_stands(value, asked_whole) or _stands(value, beside))}
            if obeyed and (data["tool"] in changing or data["tool"] == "finish"):
                named = ", ".join(sorted(obeyed)[:3])
                return f"step {data['step']}, {data['tool']}, does what untrusted text ordered ({named})"
        for text in _untrusted(event):
            lines = list(_order_lines(text))
            orders = "\n".join([orders, *lines])
            beside += f"\n{_without(text, lines)}"
            passages = list(_passages(text))
            ordered |= {word for passage in passages for word in _words(passage)}
            read |= _words(_without(text, passages))
    return None


def _untrusted(event: Event) -> Iterator[str]:
    if event.kind == "observation" and event.data["origin"].startswith("tool:"):
        yield event.data["text"]
    elif event.kind == "recall":
        yield from (record["text"] for record in event.data["records"])


def _passages(text: str) -> Iterator[str]:
    """Each order with the lines that follow it."""
    for match in _ORDERS.finditer(text):
        begin = text.rfind("\n", 0, match.start()) + 1
        end = match.end()
        for _ in range(PASSAGE_LINES):
            found = text.find("\n", end)
            end = len(text) if found < 0 else found + 1
        yield text[begin:end]


def _order_lines(text: str) -> Iterator[str]:
    """Each order to the end of its line; where that ends with a colon, with the next one."""
    for match in _ORDERS.finditer(text):
        end = text.find("\n", match.end())
        if end >= 0 and text[match.start() : end].rstrip().endswith(":"):
            end = text.find("\n", end + 1)
        yield text[match.start() : end if end >= 0 else len(text)]


def _without(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace(part, " ")
    return text


def _words(text: str) -> set[str]:
    return {word.strip(".:-/\\").casefold() for word in _WORD.findall(text)} - _COMMON


def _words_of(value: JSON) -> set[str]:
    return {word for text in _texts(value) for word in _words(text)}


def _values(value: JSON) -> set[str]:
    """Each argument as a whole: it may be too short to have a word to go by."""
    texts = (text.strip() for text in _texts(value))
    return {text for text in texts if re.search(r"\w", text) and text.casefold() not in _COMMON | _SMALL}


def _stands(value: str, text: str) -> bool:
    """Whether a value stands in a text as a whole, not within a word or a number."""
    return re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(value)}(?!\w)(?![.,]\d)", text, re.IGNORECASE) is not None


def _texts(value: JSON) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, Mapping):
        return [text for part in cast("Mapping[str, JSON]", value).values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in cast("list[JSON]", value) for text in _texts(part)]
    return []


_COMMON = frozenset(
    [
        "about",
        "above",
        "after",
        "again",
        "agent",
        "also",
        "answer",
        "assistant",
        "because",
        "been",
        "before",
        "cannot",
        "command",
        "could",
        "does",
        "done",
        "file",
        "files",
        "first",
        "folder",
        "following",
        "from",
        "give",
        "goal",
        "have",
        "here",
        "ignore",
        "ignored",
        "immediately",
        "import",
        "instead",
        "instruction",
        "instructions",
        "into",
        "just",
        "line",
        "lines",
        "list",
        "must",
        "need",
        "never",
        "note",
        "only",
        "open",
        "other",
        "output",
        "please",
        "previous",
        "print",
        "prompt",
        "read",
        "reply",
        "result",
        "rules",
        "said",
        "same",
        "says",
        "should",
        "some",
        "stop",
        "system",
        "task",
        "tell",
        "text",
        "than",
        "that",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "told",
        "tool",
        "untrusted",
        "user",
        "using",
        "want",
        "were",
        "what",
        "when",
        "which",
        "will",
        "with",
        "word",
        "words",
        "write",
        "written",
        "your",
        "yourself",
    ]
)
"""Words that an honest answer may share with any passage ("the file says to ignore the instructions; I did not")."""
