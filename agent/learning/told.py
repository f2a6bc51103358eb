"""What is said in a session: the texts that a change of names has to reach, and what names may be compared with."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from agent.journal import Session
from agent.types import JSON

TOLD: Mapping[str, Sequence[str]] = {
    "recall": ("query", "records"),
    "action": ("thinking", "thought", "args"),
    "approval": ("comment",),
    "observation": ("text", "files", "value"),
    "nudge": ("text",),
    "notice": ("text",),
    "end": ("answer", "check", "reason", "files"),
}
"""What of each kind of event holds the session's words. Of the header it is the goal."""
GOAL = ("text", "check", "answer_schema")


def told(session: Session) -> Iterator[str]:
    """Every text of the session that a renaming would reach."""
    for event in session.events:
        if event.kind == "session":
            yield from _texts([event.data["goal"][key] for key in GOAL])
        yield from _texts([event.data.get(key) for key in TOLD.get(event.kind, ())])


def said(session: Session) -> Iterator[str]:
    """The goal and what was done: where somebody may have spoken of how a name is spelled."""
    yield session.header["goal"]["text"]
    for event in session.events:
        if event.kind == "action":
            yield from _texts([event.data["thought"], *(event.data["args"] or {}).values()])


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[str, JSON]", value).items():
            yield key
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in cast("Sequence[JSON]", value):
            yield from _texts(part)


def patterns(session: Session) -> list[Callable[[str], bool]]:
    """What the session may compare names with: globs, searched patterns, and short quotations that may be parts."""
    words = "\n".join([*said(session), *_texts(session.header["goal"]["check"])])
    found: list[Callable[[str], bool]] = []
    for glob in set(re.findall(r"[\w./*?\[\]-]*[*?][\w./*?\[\]-]*", words)):
        found.append(partial(_globbed, glob.rpartition("/")[2]))
    for part in {one or other for one, other in re.findall(r"'([^'\n]{1,40})'|\"([^\"\n]{1,40})\"", words)}:
        found.append(partial(_holds, part.casefold()))
    for event in session.events:
        if event.kind == "action" and event.data["tool"] == "search_files":
            found.append(_searched(str(event.data["args"].get("pattern", ""))))
    return found


def _globbed(glob: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, glob)


def _holds(part: str, name: str) -> bool:
    return part in name.casefold() and part != name.casefold()


def _searched(pattern: str) -> Callable[[str], bool]:
    try:
        form = re.compile(pattern, re.IGNORECASE)
    except re.error:
        form = re.compile(re.escape(pattern), re.IGNORECASE)
    # The whole name as a pattern is renamed with it.
    return lambda name: name.casefold() != pattern.casefold() and form.search(name) is not None


def undisturbed(session: Session) -> bool:
    """Whether all went well in one go, on files that are all known: only then did nothing depend on similar names."""
    kinds = {event.kind for event in session.events}
    fine = all(e.data["status"] == "ok" for e in session.events if e.kind == "observation")
    whole = all(
        not event.data["left_out"] and not event.data["skipped"]
        for event in session.events
        if event.kind == "workspace"
    )
    return fine and whole and "workspace" in kinds and not kinds & {"resume", "nudge"}
