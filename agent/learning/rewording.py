"""The same goal in other words: politely, as a question or as an order, hastily typed.

Only how the sentence is put changes, never what stands in it: names, numbers, quotations and everything after the
first sentence are kept as they are. A goal whose first word does not tell what kind of sentence it is gets the manners
that suit any; one that is not English gets none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from agent.learning.curriculum.wording import ASKING, QUESTIONING, STATING

VERBS = frozenset(
    """
    add answer append calculate change check compute convert copy correct count create cut delete describe determine
    divide explain extract fill find fix format get give insert join keep list look make merge move multiply name note
    open order pick print put read remove rename replace report rewrite run save say search select set show sort split
    store subtract sum summarise summarize swap tell translate turn update use work write
    """.split()
)
QUESTIONS = frozenset("what which who whose where when why how is are does do did has have can".split())
ENGLISH = frozenset("the a an is are in of to and what which how from with for on file it me my".split())
SAME = (
    ("compute", "calculate", "work out"),
    ("create", "make"),
    ("delete", "remove"),
    ("show me", "tell me", "give me"),
    ("find out", "look up"),
)
"""Beginnings of an order that mean the same."""
_MANNERS = re.compile(r"\b(please|thanks?|hi|hey|hello|task|can you|could you|i)\b", re.IGNORECASE)
_Way = Callable[[str, random.Random], str]
_TOLD = re.compile(r"(?:What is|What's) (the .+)\?|((?:Which|Who|Where) .+|How (?:many|much) .+)\?")
_INVERTED = re.compile(r"\b(?:do|does|did)\b|^(?:Where|Who) (?:is|are)\b", re.IGNORECASE)


def reworded(text: str, draw: random.Random) -> str:
    """The goal said in another manner; the same text where nothing is certain to keep its meaning."""
    plain = text.strip()
    if not ENGLISH & {word.strip(".,?!:;").lower() for word in plain.split()}:
        return text
    ways = _ways(plain)
    said = draw.choice(ways)(plain, draw) if ways else plain
    if draw.random() < 0.2:
        said = _hasty(said, draw)
    return said


def _ways(text: str) -> list[_Way]:
    first = re.split(r"\W", text, maxsplit=1)[0].lower()
    single = not re.search(r"[.?!]\s|\n", text)
    if text.endswith("?") and first in QUESTIONS:
        return [_asked, _asked, *([_as_order] if single and _order(text) else [])]
    if first in VERBS and not text.endswith("?"):
        return [_ordered, _ordered, _ordered, _synonym] if _synonyms(text) else [_ordered]
    return [_stated]


def _ordered(text: str, draw: random.Random) -> str:
    """An order with a wrapping: `Could you count the lines?`."""
    return _wrapped(text, draw, ASKING["train"])


def _asked(text: str, draw: random.Random) -> str:
    """A question with a wrapping: `Quick question: how many lines are there?`."""
    return _wrapped(text, draw, QUESTIONING["train"])


def _stated(text: str, draw: random.Random) -> str:
    wraps = STATING["train"]
    return _wrapped(text, draw, tuple(w for w in wraps if w.endswith("{}")) if text.endswith("?") else wraps)


def _as_order(text: str, draw: random.Random) -> str:
    return f"{draw.choice(('Tell me', 'Please tell me', 'I want to know', 'Find out'))} {_order(text)}."


def _order(text: str) -> str:
    """What is asked for, to stand behind `Tell me`; empty where the words would have to change places."""
    match = _TOLD.fullmatch(text)
    if match is None or _INVERTED.search(text):
        return ""
    return match[1] or _lowered(match[2])


def _synonym(text: str, draw: random.Random) -> str:
    return draw.choice(_synonyms(text))


def _synonyms(text: str) -> list[str]:
    for group in SAME:
        for one in group:
            if re.match(rf"{one}\b", text, re.IGNORECASE):
                return [f"{other.capitalize()}{text[len(one) :]}" for other in group if other != one]
    return []


def _wrapped(text: str, draw: random.Random, wraps: tuple[str, ...]) -> str:
    several = re.search(r"[.?!]\s|\n", text) is not None
    mannered = _MANNERS.search(text) is not None
    fitting = [
        wrap for wrap in wraps if (wrap.endswith("{}") or not several) and not (mannered and _MANNERS.search(wrap))
    ]
    if not fitting:
        return text
    wrap = draw.choice(fitting)
    inner = text if wrap.startswith("{}") else _lowered(text)
    if not wrap.endswith("{}"):
        inner = re.sub(r"(?<=\w)\.$", "", inner)
    return wrap.replace("{}", inner)


def _lowered(text: str) -> str:
    """With a small letter, if the first word is one whose capital only begins the sentence."""
    first = re.split(r"\W", text, maxsplit=1)[0]
    return text[0].lower() + text[1:] if first.lower() in VERBS | QUESTIONS and first[1:].islower() else text


def _hasty(text: str, draw: random.Random) -> str:
    """Without the full stop, or with two letters of an ordinary word the wrong way round."""
    words = [m for m in re.finditer(r"(?<![\w./'\"-])[a-z]{4,}(?![\w./'\"-])", text) if m[0] in VERBS | QUESTIONS]
    if words and draw.random() < 0.5:
        word = draw.choice(words)
        at = word.start() + draw.randrange(1, len(word[0]) - 1)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return re.sub(r"(?<=[a-z])\.$", "", text)
