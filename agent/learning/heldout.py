"""Goals that are never trained on: the suites a gate or an evaluation measures with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from agent.goalfile import GoalRow
from agent.journal import Session
from agent.types import JSON, WhetstoneError

NEAR = 0.85
"""Two goals with the same check are the same goal in other words if they share this much of their words."""
Leak = Literal["exact", "near"]


@dataclass(frozen=True)
class HeldOut:
    """What is known of the held-out goals. `digest` is the sha256 over all of them, empty where there are none."""

    digest: str = ""
    goals: int = 0
    suites: tuple[str, ...] = ()
    """`rows_digest` of each suite."""
    _by_text: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    """Digests of the check and of the files of each goal in these words."""
    _unchecked: frozenset[str] = frozenset()
    _by_check: Mapping[str, list[frozenset[str]]] = field(default_factory=dict[str, list[frozenset[str]]])

    def leak(self, session: Session) -> Leak | None:
        """Whether a session worked on a held-out goal: the same one, or nearly so.

        The same goal has the same words and starts from the same files, whatever its check; where the suite does not
        say the files, it has the same check (or one of them has none). `near` are the same words otherwise, and nearly
        the same words with the same check.
        """
        goal = session.header["goal"]
        return self._leak(goal["text"], goal["check"], lambda: _start(session))

    def refuse(self, rows: Iterable[GoalRow]) -> None:
        """Raise WhetstoneError if one of the goals to be trained on is a held-out one."""
        for row in rows:
            if self._leak(row.goal.text, row.goal.check, lambda row=row: _files_digest(row.files)) == "exact":
                raise WhetstoneError(
                    f"goal {row.id} is one of the held-out goals: training on it would make every later measurement"
                    " worthless; take it out of the goals"
                )

    def _leak(self, text: str, check: JSON, start: Callable[[], str]) -> Leak | None:
        words, digest = normalised(text), check_digest(check)
        same = self._by_text.get(words, ())
        if words in self._unchecked or (same and check is None):
            return "exact"
        if same:
            here = start()
            exact = any(files == here if files else other == digest for other, files in same)
            return "exact" if exact else "near"
        apart = frozenset(words.split())
        near = any(_alike(apart, other) >= NEAR for other in self._by_check.get(digest, ()))
        return "near" if near and check is not None else None


def read_held_out(suites: Iterable[Path]) -> HeldOut:
    """The goals of suites (JSONL files of goal rows). Raises WhetstoneError for a file that is none."""
    by_text: dict[str, list[tuple[str, str]]] = {}
    by_check: dict[str, list[frozenset[str]]] = {}
    unchecked: set[str] = set()
    lines: list[str] = []
    digests: list[str] = []
    for suite in suites:
        own: list[str] = []
        for row in _rows(suite):
            text, check = normalised(str(row["goal"])), check_digest(row.get("check"))
            by_text.setdefault(text, []).append((check, _files_digest(row.get("files"))))
            by_check.setdefault(check, []).append(frozenset(text.split()))
            if row.get("check") is None:
                unchecked.add(text)
            own.append(f"{text} {check}\n")
        lines += own
        digests.append(_lines_digest(own))
    return HeldOut(_lines_digest(lines), len(lines), tuple(digests), by_text, frozenset(unchecked), by_check)


def refuse_unchecked(rows: Iterable[GoalRow], what: str) -> None:
    """Raise WhetstoneError if a goal has no check: then nothing says whether a session that ended was a success."""
    for row in rows:
        if row.goal.check is None:
            raise WhetstoneError(
                f"goal {row.id} of {what} has no check, so nothing would say whether it was reached: give it one"
            )


def rows_digest(rows: Iterable[GoalRow]) -> str:
    """sha256 hex over the words and checks of a suite's goals, as data that was kept apart from it records it."""
    return _lines_digest([f"{normalised(row.goal.text)} {check_digest(row.goal.check)}\n" for row in rows])


def normalised(text: str) -> str:
    """A goal's words: lower case, without punctuation around them, one blank between."""
    words = (re.sub(r"^\W+|\W+$", "", word) for word in text.casefold().split())
    return " ".join(word for word in words if word)


def check_digest(check: JSON) -> str:
    """sha256 hex of a check, whatever the order of its keys."""
    return sha256(json.dumps(check, sort_keys=True).encode()).hexdigest()


def _lines_digest(lines: list[str]) -> str:
    return sha256("".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _start(session: Session) -> str:
    """The digest of the files the session started from, as `_files_digest` makes it."""
    kept = next((event.data for event in session.events if event.kind == "workspace"), None)
    if kept is None:
        return ""
    return _digest_of((file["path"], file["sha256"]) for file in kept["files"])


def _files_digest(files: Mapping[str, str] | None) -> str:
    """Empty where the suite does not say what the goal starts from."""
    if files is None:
        return ""
    return _digest_of((re.sub(r"^\./", "", path), sha256(text.encode()).hexdigest()) for path, text in files.items())


def _digest_of(files: Iterable[Sequence[str]]) -> str:
    return sha256(json.dumps(sorted([path, digest] for path, digest in files)).encode()).hexdigest()


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _rows(suite: Path) -> list[dict[str, Any]]:
    try:
        lines = suite.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        if all(isinstance(row, dict) and isinstance(row.get("goal"), str) for row in rows):
            return rows
    except (OSError, ValueError) as error:
        raise WhetstoneError(
            f"the held-out suite {suite} cannot be read ({error}): give a JSONL file of goals"
        ) from error
    raise WhetstoneError(f'the held-out suite {suite} has a line without a goal: each line needs a "goal"')
