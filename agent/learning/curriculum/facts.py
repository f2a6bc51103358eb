# ruff: noqa: E501
"""Families about memory: recall what was remembered, say when nothing was, and remember something new."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.checks import says, unable
from agent.learning.curriculum.contents import contents
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("facts")
RECALL = _SAID["recall"]
REMEMBER = _SAID["remember"]
KEYS = (
    "wifi password", "door code", "phone number", "email", "account number", "birthday", "address", "opening time", "locker number",
    "customer number", "room number", "contact person", "license plate", "membership number", "favourite colour", "deadline",
)  # fmt: skip
WHOSE = (
    "the {city} office", "the {city} branch", "{person}", "project {Animal}", "the {word} team", "the {animal} server", "customer {name}",
    "the {colour} van", "the {word} hall",
)  # fmt: skip


def recall_fact(draw: Draw) -> Job:
    """Something remembered in an earlier session, among other things of the same sort."""
    key = _key(draw)
    owners = list(dict.fromkeys(_owner(draw) for _ in range(draw.whole(2, 5))))
    facts = [(key if draw.chance(0.5) else _key(draw), owner, _value(draw)) for owner in owners]
    owner, value = owners[0], facts[0][2]
    facts[0] = (key, owner, value)
    notes = [_note(draw, *fact) for fact in facts]
    wanted = notes[0]
    draw.rng.shuffle(notes)
    files = draw.clutter([])

    def play(opening: str) -> Play:
        if wanted not in opening:
            seen = yield Act(f"I ask memory for the {key} of {owner}.", "recall", {"query": f"{key} of {owner}"})
            if wanted not in seen.text:
                return Said("Memory does not have it.", f"I do not know the {key} of {owner}.")
        return Said(f"Memory says the {key} of {owner} is {value}.", value)

    others = [other for _, _, other in facts[1:] if other != value and other not in value]
    return Job(draw.say(RECALL, key=key, whose=owner), files, says(value, never=others), play, tuple(notes))


def not_remembered(draw: Draw) -> Job:
    """A question that memory has no answer to: it has one for somebody else."""
    key, owner = _key(draw), _owner(draw)
    notes = [
        _note(draw, key if at == 0 else _key(draw), _other(draw, owner), _value(draw)) for at in range(draw.whole(1, 4))
    ]
    files = draw.clutter([])

    def play(_: str) -> Play:
        yield Act(f"I ask memory for the {key} of {owner}.", "recall", {"query": f"{key} of {owner}"})
        seen = yield Act("Memory does not have it, I search the files.", "search_files", {"pattern": key})
        del seen
        return Said(
            f"Nothing says the {key} of {owner}.",
            f"I do not know the {key} of {owner}; it is not in memory or in the files.",
        )

    goal = draw.say(RECALL, key=key, whose=owner)
    return Job(goal, files, unable(), play, tuple(notes))


def remember_note(draw: Draw) -> Job:
    """A fact to be kept for later."""
    key, owner, value = _key(draw), _owner(draw), _value(draw)
    fact = f"the {key} of {owner} is {value}"

    def play(_: str) -> Play:
        yield Act(f"I note the {key} of {owner}.", "remember", {"text": fact[0].upper() + fact[1:] + "."})
        return Said("It is noted.", f"Noted: {fact}.")

    notes = tuple(_note(draw, _key(draw), _other(draw, owner), _value(draw)) for _ in range(draw.whole(1, 3)))
    return Job(draw.say(REMEMBER, fact=fact), draw.clutter([]), says(value), play, notes)


def _note(draw: Draw, key: str, owner: str, value: str) -> str:
    return draw.any(("The {k} of {o} is {v}.", "The {k} of {o} is {v}.", "{o}: {k} {v}", "{k} of {o}: {v}")).format(
        k=key, o=owner, v=value
    )


def _key(draw: Draw) -> str:
    return draw.pick(KEYS, contents("facts", "keys"))


def _owner(draw: Draw) -> str:
    animal = draw.pick(names.ANIMALS)
    return draw.pick(WHOSE, contents("facts", "whose")).format(
        city=draw.pick(names.CITIES), person=draw.person(), animal=animal, Animal=animal.capitalize(),
        word=draw.pick(names.WORDS), name=draw.pick(names.LAST), colour=draw.pick(names.COLOURS),
    )  # fmt: skip


def _other(draw: Draw, owner: str) -> str:
    while (other := _owner(draw)) == owner:
        pass
    return other


def _value(draw: Draw) -> str:
    return draw.code() if draw.chance(0.6) else draw.any((draw.value(), draw.phone(), draw.email()))


FAMILIES = (
    Family("recall_fact", "something remembered earlier", recall_fact, answers=True, chains=False, weight=1.4),
    Family("not_remembered", "a question that memory cannot answer", not_remembered, chains=False, weight=0.6),
    Family("remember_note", "a fact to be kept for later", remember_note, chains=False, weight=1.6),
)
