"""Files and values of a session under other names, everywhere at once, so that it is true as if it had been lived.

A name is changed only where it is certain that nothing hangs on it:

* it stands as a whole word wherever its letters stand at all: in the goal, the check, the actions, the results, and in
  the files that the session started from;
* no result was an error, and nothing was resumed (a tool that failed may have guessed at similar names);
* its new name has as many letters, keeps the place in the alphabet among the other names of files, is of the same
  sort, and occurs nowhere in the session;
* every pattern and every quotation of the session that fits the old name fits the new one, and none other does;
* for values: no word of the session speaks of letters, lengths or order.

Files may have any name; values are first names, surnames, cities, things, colours and animals that the goal names and
a file holds. Numbers and dates never change, because something may have been computed with them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from agent.export.redaction import with_texts
from agent.journal import Session
from agent.learning.curriculum import names
from agent.learning.curriculum.draw import Draw
from agent.learning.told import GOAL, TOLD, patterns, said, told, undisturbed
from agent.types import JSON, Event

VALUES = (names.FIRST, names.LAST, names.CITIES, names.PRODUCTS, names.COLOURS, names.ANIMALS)
MOST_VALUES = 3
CODE = frozenset("py pyi sh js ts c h cpp rs go java rb toml lock".split())
CUSTOMARY = frozenset("readme license changelog requirements package makefile dockerfile index.html".split())
"""Names that programs look for."""
_SPELLING = re.compile(
    r"(?i)\bsort|\border(ed|ing)?\b|alphabet|letter|character|length|\blen\b|longe|shorte|\bstart(s|ing)?_?with|\bbegin"
    r"|\bend(s|ing)?_?with|(starts|starting|ends|ending) with|vowel|upper|capital|initial|revers|hash|group_?by|unique"
    r"|value_counts|pivot|\bmin\b|\bmax\b|\[:?-?\d*:"
)
"""Where a session speaks so, the spelling of a value may decide what is true."""


@dataclass(frozen=True)
class Renaming:
    """Stems of file names and values, each with its new form; `extensions` are those of each stem."""

    files: Mapping[str, str]
    values: Mapping[str, str]
    extensions: Mapping[str, frozenset[str]]

    def __bool__(self) -> bool:
        return bool(self.files or self.values)

    def text(self, text: str) -> str:
        """`text` with every name changed."""
        for old, new in self.files.items():
            text = _file_form(old, self.extensions[old]).sub(lambda _, new=new: new, text)
        for old, new in self.values.items():
            text = _value_form(old).sub(lambda _, new=new: new, text)
        return text

    def value(self, value: JSON) -> JSON:
        """A JSON value with every text in it changed, keys of objects included."""
        return with_texts(value, self.text)

    def path(self, path: str) -> str:
        """A file's path under its new name."""
        return self.text(path)

    def content(self, content: bytes) -> bytes:
        """A file's content with every name changed; what is no text is kept."""
        try:
            return self.text(content.decode("utf-8")).encode("utf-8")
        except UnicodeDecodeError:
            return content


def certain_renaming(session: Session, contents: Mapping[str, bytes] | None, draw: random.Random) -> Renaming:
    """A renaming of what may be renamed in a session, drawn with `draw`; an empty one where nothing is certain.

    `contents` are the files it started from, by path; None where they are not all known.
    """
    if contents is None or not undisturbed(session):
        return Renaming({}, {}, {})
    words = [*told(session), *(content.decode("utf-8", "replace") for content in contents.values()), *contents]
    ground = _Ground("\n".join(words), session.header["system"], patterns(session), draw)
    extensions = _stems(session, contents)
    peers = {part for path in _paths(session, contents) for part in PurePosixPath(path).parts}
    files: dict[str, str] = {}
    taken: set[str] = set()
    for stem in sorted(extensions):
        if ground.only(stem, _file_form(stem, extensions[stem])):
            new = ground.new_stem(stem, extensions[stem], peers | taken)
            if new:
                files[stem] = new
                taken |= {f"{new}.{extension}" for extension in extensions[stem]}
    values: dict[str, str] = {}
    if not _SPELLING.search(" ".join(said(session))):
        held = "\n".join(content.decode("utf-8", "replace") for content in contents.values())
        for old, pool in _values(session.header["goal"]["text"], held)[:MOST_VALUES]:
            if ground.only(old, _value_form(old)) and (new := ground.new_value(old, pool)):
                values[old] = new
    return Renaming(files, values, {stem: extensions[stem] for stem in files})


def renamed(session: Session, renaming: Renaming, contents: Mapping[str, bytes]) -> Session:
    """The session with the names changed, its files' digests and sizes too. Its chain of hashes holds no longer."""
    return replace(session, events=tuple(_renamed(event, renaming, contents) for event in session.events))


def _renamed(event: Event, renaming: Renaming, contents: Mapping[str, bytes]) -> Event:
    if event.kind == "session":
        goal = {**event.data["goal"], **{key: renaming.value(event.data["goal"][key]) for key in GOAL}}
        return replace(event, data={**event.data, "goal": goal})
    if event.kind == "workspace":
        files = [_file(file, renaming, contents) for file in event.data["files"]]
        return replace(event, data={**event.data, "files": sorted(files, key=lambda file: file["path"].split("/"))})
    changed = {key: renaming.value(event.data[key]) for key in TOLD.get(event.kind, ()) if key in event.data}
    if event.kind == "action" and any(changed[key] != event.data[key] for key in changed):
        # Its tokens spell the old names; the encoder writes it anew from its arguments.
        action = {"thought": changed["thought"], "tool": event.data["tool"], "args": changed["args"]}
        written = json.dumps(action, ensure_ascii=False, separators=(",", ":"))
        changed |= {"text": written, "token_ids": [], "sampled": [], "logprobs": []}
    return replace(event, data={**event.data, **changed})


def _file(file: Mapping[str, Any], renaming: Renaming, contents: Mapping[str, bytes]) -> dict[str, Any]:
    content = renaming.content(contents[file["path"]])
    return {
        **file, "path": renaming.path(file["path"]), "sha256": sha256(content).hexdigest(), "size": len(content),
    }  # fmt: skip


class _Ground:
    """All that is said in a session, to see what may change in it."""

    def __init__(self, told: str, system: str, patterns: Sequence[Callable[[str], bool]], draw: random.Random) -> None:
        self.told, self.patterns = told, patterns
        self._system = system
        self._taken = f"{told}\n{system}".casefold()
        self._draw = Draw(draw, "train")

    def only(self, name: str, form: re.Pattern[str]) -> bool:
        """Whether the letters of a name stand in the session as that name and nowhere else, in any case."""
        letters = re.compile(re.escape(name), re.IGNORECASE)
        whole = len(form.findall(self.told))
        return 0 < whole == len(letters.findall(self.told)) and not letters.search(self._system)

    def new_stem(self, stem: str, extensions: frozenset[str], peers: set[str]) -> str | None:
        """Another stem for a file, with the same figures and separators and the same place among `peers`."""
        words = re.findall(r"[^\W\d_]+", stem)
        pool = [*self._draw.share(names.STEMS), *self._draw.share(names.WORDS), *self._draw.share(names.PRODUCTS)]
        fitting = {word: [p for p in pool if len(p) == len(word)] for word in words if word not in names.MONTHS}
        for _ in range(24):
            new = re.sub(
                r"[^\W\d_]+",
                lambda m: _cased(self._draw.any(fitting[m[0]]), m[0]) if fitting.get(m[0]) else m[0],
                stem,
            )
            old_names, new_names = [f"{stem}.{e}" for e in extensions], [f"{new}.{e}" for e in extensions]
            others = [peer for peer in peers if peer not in old_names]
            same_place = all(_place(o, others) == _place(n, others) for o, n in zip(old_names, new_names, strict=True))
            if new != stem and same_place and self._fits(stem, new, extensions):
                return self._take(new)
        return None

    def new_value(self, old: str, pool: Sequence[str]) -> str | None:
        """Another value of the same sort."""
        options = [new for new in self._draw.share(pool) if len(new) == len(old) and new != old]
        self._draw.rng.shuffle(options)
        return next((self._take(new) for new in options if self._fits(old, new, frozenset())), None)

    def _fits(self, old: str, new: str, extensions: frozenset[str]) -> bool:
        pairs = [(old, new), *((f"{old}.{e}", f"{new}.{e}") for e in extensions)]
        return new.casefold() not in self._taken and all(
            matches(one) == matches(other) for matches in self.patterns for one, other in pairs
        )

    def _take(self, new: str) -> str:
        self._taken += f"\n{new.casefold()}"
        return new


def _paths(session: Session, contents: Mapping[str, bytes]) -> set[str]:
    """All files there were, at the start and later, and the folders."""
    folders = [folder for e in session.events if e.kind == "workspace" for folder in e.data["folders"]]
    made = [path for e in session.events if e.kind == "observation" for path in e.data["files"]]
    return {*contents, *folders, *made}


def _stems(session: Session, contents: Mapping[str, bytes]) -> dict[str, frozenset[str]]:
    """The stems of the files' names, each with its extensions."""
    found: dict[str, set[str]] = {}
    for path in _paths(session, contents):
        stem, dot, extension = PurePosixPath(path).name.rpartition(".")
        customary = extension.lower() in CODE or {stem.lower(), f"{stem}.{extension}".lower()} & CUSTOMARY
        if dot and len(stem) >= 3 and "." not in stem and not customary:
            found.setdefault(stem, set()).add(extension)
    return {stem: frozenset(extensions) for stem, extensions in found.items()}


def _values(goal: str, held: str) -> list[tuple[str, Sequence[str]]]:
    """The values that stand in the goal and in a file, in the goal's order, each with the pool it is of."""
    found: list[tuple[str, Sequence[str]]] = []
    for word in dict.fromkeys(re.findall(r"[^\W\d_]{3,}", goal)):
        pools = [pool for pool in VALUES if word in pool]
        if len(pools) == 1 and _value_form(word).search(held):
            found.append((word, pools[0]))
    return found


def _file_form(stem: str, extensions: frozenset[str]) -> re.Pattern[str]:
    """The stem of a file's name, with or without the escapes of a pattern."""
    ends = "|".join(re.escape(extension) for extension in sorted(extensions))
    return re.compile(rf"(?<![\w.-]){re.escape(stem)}(?=\\{{0,2}}\.(?:{ends})(?![\w-]))")


def _value_form(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.@-]){re.escape(value)}(?![\w@-]|\.\w)")


def _place(name: str, others: Sequence[str]) -> tuple[tuple[bool, bool], ...]:
    return tuple((name < other, name.casefold() < other.casefold()) for other in others)


def _cased(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word
