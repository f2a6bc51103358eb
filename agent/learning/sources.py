"""Where sessions to learn from lie: journals, folders of them, and files of chats that somebody else made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from agent.journal import Session, find_session, read_session
from agent.learning.imports import read_chats
from agent.lines import append_line, read_lines
from agent.types import WhetstoneError

INSIDE = ("", "sessions", "data/sessions")
"""Where in a folder journals may be: in itself, or as the data folder and the output of a batch have them."""
RATINGS = "ratings.jsonl"


def find_sources(folder: Path, wanted: Sequence[str] = ()) -> list[Path | Session]:
    """Journals (as paths) and imported chats (as sessions) of everything `wanted` names; all in `folder` by default.

    A name is the id of a session in `folder`, a journal, a folder of journals, or a file of chats (`messages` or
    `sharegpt`, JSON or JSONL). Raises WhetstoneError for a name that is none of these.
    """
    if not wanted:
        return list(_journals_in(folder))
    found: list[Path | Session] = []
    for name in wanted:
        path = Path(name).expanduser()
        if path.is_dir():
            journals = list(_journals_in(path))
            if not journals:
                raise WhetstoneError(f"there are no journals in {path}, nor in its sessions or data/sessions")
            found += journals
        elif path.is_file() and _is_journal(path):
            found.append(path)
        elif path.is_file():
            found += read_chats(path)
        else:
            found.append(find_session(folder, name))
    return found


def sessions_of(manifest: Mapping[str, Any], sources: Iterable[Path | Session]) -> Iterator[Session]:
    """The sessions that a dataset was made of, in its order. Raises WhetstoneError if one is gone or changed."""
    wanted = {used["session"]: used["digest"] for used in manifest["sessions"]}
    at = {source.id if isinstance(source, Session) else source.stem: source for source in sources}
    for name, digest in wanted.items():
        if name not in at:
            raise WhetstoneError(f"session {name} of the dataset is not there: name the folder it lies in")
        source = at[name]
        session = source if isinstance(source, Session) else read_session(source)
        if session.head != digest:
            raise WhetstoneError(f"session {name} is not what it was when the dataset was made: build it again")
        yield session


def rate(data: Path, session: str, rating: str) -> None:
    """Record a person's judgement of a session, `good` or `bad`; the last one counts. Kept below the data folder."""
    append_line(data / RATINGS, {"session": session, "rating": rating})


def read_ratings(data: Path) -> dict[str, str]:
    """Session id -> `good` or `bad`."""
    return {row["session"]: row["rating"] for row in read_lines(data / RATINGS)}


def _journals_in(folder: Path) -> Iterator[Path]:
    for inside in INSIDE:
        yield from (path for path in sorted((folder / inside).glob("*.jsonl")) if _is_journal(path))


def _is_journal(path: Path) -> bool:
    with open(path, "rb") as file:
        line = file.readline()
    try:
        first: Any = json.loads(line)
    except ValueError:
        return line.startswith(b'{"seq":0,')
    return isinstance(first, Mapping) and cast("Mapping[str, Any]", first).get("kind") == "session"
