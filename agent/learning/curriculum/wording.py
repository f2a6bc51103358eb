# ruff: noqa: E501
"""How a goal is said: templates with alternatives, then a manner of speaking.

A template is a text in which `(a|b|c)` stands for one of them (an alternative may be empty, and may hold others), and
`{name}` for a value. One that ends with `?` is a question, one that begins with `~` is said as it stands, any other is
an imperative. A manner wraps the sentence (politely, tersely, with a word of thanks) or roughens it (no capitals, no
full stop, typos). Values are never touched: they are what has to be copied.

Training and held-out goals have templates and wrappings of their own. The templates are in `wordings/`, one TOML file
for each module of families.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

Piece = tuple[str, bool]
"""A piece of text, and whether it is a value."""


@dataclass(frozen=True)
class Wording:
    """Templates of one kind of goal, by split."""

    train: Sequence[str]
    heldout: Sequence[str]


def wordings(module: str) -> dict[str, Wording]:
    """The kinds of goals of a module of families, by name; a kind that is only trained on, or never, lacks the others."""
    text = resources.files("agent.learning.curriculum").joinpath(f"wordings/{module}.toml").read_text(encoding="utf-8")
    return {
        name: Wording(tuple(kind.get("train", ())), tuple(kind.get("heldout", ())))
        for name, kind in tomllib.loads(text).items()
    }


ASKING = {
    "train": (
        "Please {}", "Please {}", "Can you {}?", "Could you {}?", "Could you please {}?", "I want you to {}", "I'd like you to {}",
        "Your task: {}", "Task: {}", "Hey, {}", "Hi! Please {}", "Now {}", "I need you to {}", "Help me: {}", "Would you {}?",
        "{}, please", "{} please", "{}, thanks", "{}. Thank you!", "{}. Keep it short.", "{}. Tell me when it is done.",
        "Go ahead and {}", "Let's {}", "You should {}", "Hello, can you {}?", "we need to {}", "{} for me", "{} asap",
        "Would you mind helping? {}", "Be a dear and {}", "When you have a minute, {}", "I was told to {}. Over to you", "{}, will you?", "Could I ask you to {}?", "{} (it is urgent)", "{} if possible", "Time to {}",
        "Just {}", "Try to {}", "Quickly {}", "My colleague asked me to {}", "I'm supposed to {}, please do it", "{}, ok?", "Thanks in advance! {}", "Hi there, {}", "{}. I owe you one.", "{} and let me know",
        "{}. Nothing more.", "Your job is to {}", "Here is what I need: {}", "pls {}", "Would it be ok to {}?", "{}. No rush.", "Right, {}", "First thing today: {}", "Ok, {}",
    ),
    "heldout": (
        "Kindly {}", "Would you be so kind as to {}?", "I would appreciate it if you could {}", "Next up: {}",
        "Job for you: {}", "Good morning. {}", "Do me a favour and {}", "{}. Cheers!", "{}. Much appreciated.", "{}, if you can",
        "Any chance you could {}?", "The boss wants you to {}", "I have to {}, do it for me",
    ),
}  # fmt: skip
QUESTIONING = {
    "train": (
        "Tell me: {}", "Quick question: {}", "Hi! {}", "Hey, {}", "I'd like to know: {}", "Question: {}", "{} Thanks.",
        "{} Please look it up.", "{} Short answer please.", "{} Just the answer.", "{} Thank you!", "I was wondering: {}",
        "Can you tell me: {}", "{} I need it for a report.", "{} Please check.", "So, {}", "Please answer: {}", "{} It is urgent.",
        "Any idea? {}", "Hmm, {}", "Do you know this: {}", "I forgot. {}", "{} I am not sure.", "Someone asked me: {}", "{} Can you look?", "{} Let me know.", "Hi there! {}", "A question for you: {}", "{} No explanation needed.",
        "Could you check this for me? {}", "{} I need to know today.", "I have no clue: {}", "Please find out: {}", "Ok, {}", "{} Reply in a few words.", "For my notes: {}", "Let me ask: {}", "{} We are wondering.",
    ),
    "heldout": (
        "Riddle me this: {}", "One thing I need to find out: {}", "Morning! {}", "{} Cheers.", "{} My manager asks.",
        "{} Be brief.", "Help me out here: {}", "Say, {}", "{} I could not find it myself.", "{} Have a look.",
    ),
}  # fmt: skip
STATING = {
    "train": (
        "Hi! {}",
        "Hello, {}",
        "Hey, {}",
        "{}, please",
        "{}, thanks",
        "{}. Thank you!",
        "{} please",
        "Task: {}",
        "So: {}",
        "Ok, {}",
        "Hi there. {}",
        "Here goes: {}",
        "{}. That is all.",
        "{}. Can you do that?",
        "Please: {}",
        "{} (thank you)",
        "Dear agent, {}",
        "{} asap",
        "{}. Over to you.",
    ),
    "heldout": ("Morning! {}", "Next up: {}", "{}. Cheers!", "{}. Much appreciated.", "Say, {}"),
}
STATEMENTS = (
    "I ",
    "{",
    "In ",
    "The ",
    "There ",
    "Per ",
    "My ",
    "We ",
    "From ",
    "Of ",
    "For ",
    "Somewhere ",
    "As ",
    "It ",
    "On ",
    "With ",
    "(In",
    "(I ",
    "All ",
)
"""How a template begins that is neither a question nor an imperative."""
_TOKEN = re.compile(r"[()|]|\{[a-z_0-9]+\}|[^()|{}]+")


def phrase(
    rng: random.Random, split: Literal["train", "heldout"], wording: Wording, *, plain: bool = False, **values: object
) -> str:
    """A goal in words; `plain` leaves out all manners. Raises KeyError when a template names a value not given."""
    templates = wording.train if split == "train" else wording.heldout
    template = rng.choice([t for t in templates if not plain or not t.startswith("~")])
    as_is = template.startswith("~")
    pieces = expand(rng, template.removeprefix("~"), values)
    question = pieces[-1][0].endswith("?") and not pieces[-1][1]
    if question:
        pieces = [*pieces[:-1], (pieces[-1][0][:-1], False)]
    if plain:
        return _tidy(_capitalised([*pieces, ("?" if question else "", False)]))
    manner = rng.random()
    if not as_is and manner < 0.40:
        statement = template.startswith(STATEMENTS) or any(
            re.search(r"[.?]", text) for text, value in pieces if not value
        )
        wrap = rng.choice((QUESTIONING if question else ASKING)[split] if question or not statement else STATING[split])
        pieces = _wrapped(pieces, wrap, "?" if question else "")
    else:
        end = "?" if question else rng.choice(("", "."))
        pieces = _capitalised([*pieces, (end, False)])
    if 0.40 <= manner < 0.52:
        pieces = [(text if value else text.lower(), value) for text, value in pieces]
        pieces = _without_end(pieces)
    if rng.random() < 0.09:
        pieces = _mistyped(rng, pieces)
    return _tidy(pieces)


def _tidy(pieces: list[Piece]) -> str:
    """The sentence, without the blanks that empty alternatives leave behind."""
    text = re.sub(r" +", " ", "".join(text for text, _ in pieces)).strip()
    return re.sub(r" ([?.,;])(?=\s|$)", r"\1", text)


def expand(rng: random.Random, template: str, values: Mapping[str, object]) -> list[Piece]:
    """One reading of a template, in pieces."""
    return _merged(_read(rng, _parsed(template), values))


@cache
def _parsed(template: str) -> tuple[object, ...]:
    """The template as a sequence of texts, `{value}` names and tuples of alternatives."""
    stack: list[list[list[object]]] = [[[]]]
    for token in _TOKEN.findall(template):
        if token == "(":
            stack.append([[]])
        elif token == "|" and len(stack) > 1:
            stack[-1].append([])
        elif token == ")":
            alternatives = stack.pop()
            stack[-1][-1].append(tuple(tuple(branch) for branch in alternatives))
        else:
            stack[-1][-1].append(token)
    return tuple(stack[0][0])


def _read(rng: random.Random, parts: tuple[object, ...], values: Mapping[str, object]) -> list[Piece]:
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, tuple):
            pieces += _read(rng, rng.choice(part), values)
        elif isinstance(part, str) and part.startswith("{"):
            pieces.append((str(values[part[1:-1]]), True))
        else:
            pieces.append((str(part), False))
    return pieces


def _merged(pieces: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for text, value in pieces:
        if merged and not value and not merged[-1][1]:
            merged[-1] = (merged[-1][0] + text, False)
        elif text:
            merged.append((text, value))
    return merged


def _wrapped(pieces: list[Piece], wrap: str, end: str) -> list[Piece]:
    before, _, after = wrap.partition("{}")
    if before and not pieces[0][1] and not before.endswith((": ", "! ", ". ")):
        first = pieces[0][0]
        pieces = [(first[:1].lower() + first[1:] if first[:2] not in ("I ", "I'") else first, False), *pieces[1:]]
    else:
        pieces = _capitalised(pieces)
    return _capitalised([(before, False), *pieces, (end + after, False)] if before else [*pieces, (end + after, False)])


def _capitalised(pieces: list[Piece]) -> list[Piece]:
    if pieces[0][1]:
        return pieces
    first = pieces[0][0]
    return [(first[:1].upper() + first[1:], False), *pieces[1:]]


def _without_end(pieces: list[Piece]) -> list[Piece]:
    text, value = pieces[-1]
    return pieces if value else [*pieces[:-1], (text.rstrip(" .?"), False)]


def _mistyped(rng: random.Random, pieces: list[Piece]) -> list[Piece]:
    """One or two slips of the finger, in words that are not values."""
    words = [
        (number, match)
        for number, (text, value) in enumerate(pieces)
        if not value
        for match in re.finditer(r"[a-z]{4,}", text)
    ]
    for number, match in rng.sample(words, min(len(words), rng.randint(1, 2))):
        text = pieces[number][0]
        at = match.start() + rng.randrange(1, len(match.group()) - 1)
        kind = rng.randrange(3)
        if kind == 0:
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        elif kind == 1:
            text = text[:at] + text[at + 1 :]
        else:
            text = text[:at] + text[at] + text[at:]
        if len(words) > 1 and kind:
            return [*pieces[:number], (text, False), *pieces[number + 1 :]]  # places after this one have moved
        pieces = [*pieces[:number], (text, False), *pieces[number + 1 :]]
    return pieces
