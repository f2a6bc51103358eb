"""More goals out of the same sessions: each told again with its goal in other words and, where that is certain, with
other names for its files and values (`agent.learning.rewording`, `agent.learning.renaming`).

A retold session is as true as the one that was lived: its actions on its files give its results, and its check holds.
It is encoded like any other, its held-out goals are refused like any other's, and its examples name the session that it
was made of, so that purging one purges both.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.check import _answer as verify_answer  # pyright: ignore[reportPrivateUsage]
from agent.journal import Session
from agent.learning.examples import Example
from agent.learning.heldout import HeldOut
from agent.learning.renaming import Renaming, certain_renaming, renamed
from agent.learning.rewording import reworded
from agent.learning.sequences import SessionEncoder
from agent.learning.writing import Unusable
from agent.snapshots import ObjectStore
from agent.types import JSON, WhetstoneError

TRIES = 4
"""How often a variant is drawn anew before there is one fewer."""


@dataclass(frozen=True)
class Retold:
    """A session told again: `contents` are the files it starts from, by path, None where they are not known."""

    session: Session
    renaming: Renaming
    contents: Mapping[str, bytes] | None


@dataclass
class Augmenter:
    """Makes up to `variants` variants of each session it is given, and counts what came of them.

    `dropped` are the session and the number of each variant that met a held-out goal; those it is given stay away even
    where the suite is not at hand.
    """

    variants: int
    seed: int = 0
    dropped: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def examples(self, session: Session, encoder: SessionEncoder, held_out: HeldOut) -> list[Example]:
        """The examples of a session's variants. They keep its id, its digest and its goal, and count from 1."""
        found: list[Example] = []
        for number, told in enumerate(retellings(session, self.variants, self.seed), start=1):
            if (session.id, number) in self.dropped or held_out.leak(told.session) is not None:
                self.dropped.add((session.id, number))
                self.counts["held out"] += 1
                continue
            try:
                made = encoder.examples(told.session, exact=False)
            except Unusable:
                self.counts["not writable"] += 1
                continue
            self.counts["renamed" if told.renaming else "reworded"] += 1
            goal = session.header["goal"]["text"]
            found += [replace(one, goal=goal, variant=number) for one in made]
        self.counts["left as they are"] += not found
        return found

    def as_data(self) -> dict[str, Any]:
        """For the manifest: what was asked for, and what came of it."""
        dropped = [list(one) for one in sorted(self.dropped)]
        return {"variants": self.variants, "seed": self.seed, "counts": dict(self.counts), "dropped": dropped}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Augmenter:
        """One that makes the same variants as the one that a manifest or a card records."""
        return cls(data["variants"], data["seed"], {(session, number) for session, number in data["dropped"]})


def retellings(session: Session, variants: int, seed: int = 0) -> Iterator[Retold]:
    """Up to `variants` different variants of a session; fewer where little is certain to stay true."""
    contents = kept_files(session)
    seen = {_key(session)}
    for number in range(1, variants + 1):
        for attempt in range(TRIES):
            told = _retold(session, contents, random.Random(f"{seed} {session.id} {number} {attempt}"))
            if told is not None and _key(told.session) not in seen:
                seen.add(_key(told.session))
                yield told
                break


def kept_files(session: Session) -> dict[str, bytes] | None:
    """The files a session started from, by path, as its journal's folder keeps them; None if one is not kept."""
    start = next((event.data for event in session.events if event.kind == "workspace"), None)
    if start is None or start["left_out"] or start["skipped"]:
        return None
    store = ObjectStore(session.path.parent.parent / "objects")
    try:
        return {file["path"]: store.get(file["sha256"]) for file in start["files"]}
    except WhetstoneError:
        return None


def _retold(session: Session, contents: Mapping[str, bytes] | None, draw: random.Random) -> Retold | None:
    """One variant, or None where a new name would make the check of the answer fail."""
    renaming = certain_renaming(session, contents, draw)
    told = session
    if renaming and contents is not None:
        told = renamed(session, renaming, contents)
        contents = {renaming.path(path): renaming.content(content) for path, content in contents.items()}
        end = told.events[-1].data
        if not _holds(told.header["goal"]["check"], end.get("answer")):
            return None
    header = told.header
    goal = {**header["goal"], "text": reworded(header["goal"]["text"], draw)}
    first = replace(told.events[0], data={**header, "goal": goal})
    return Retold(replace(told, events=(first, *told.events[1:])), renaming, contents)


def _holds(check: JSON, answer: JSON) -> bool:
    """Whether the parts of a check that ask for the answer alone hold; those on files hold by how names are chosen."""
    if check is None:
        return True
    if "all" in check or "any" in check:
        return all(_holds(part, answer) for part in check.get("all", ()))
    return "answer" not in check or verify_answer(check["answer"], answer).passed


def _key(session: Session) -> str:
    return f"{session.header['goal']['text']}\n{[e.data.get('args') for e in session.events if e.kind == 'action']}"
