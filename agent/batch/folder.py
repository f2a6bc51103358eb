"""The folder of a batch, and what it knows about each goal.

OUT/batch.json          the settings that every goal ran with
OUT/started.jsonl       row, its digest and its session, written before the session begins
OUT/results.jsonl       one line for each goal that ended
OUT/workspaces/<id>     what each goal worked in
OUT/data/sessions       the journals, which say what happened

A goal that was started and has no result was cut off; its journal says how far it came.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.batch.material import tree_digest
from agent.batch.models import OF_ROW
from agent.batch.results import Result, read_results
from agent.goalfile import GoalRow
from agent.journal import SUFFIX, new_session_id
from agent.lines import append_line, read_lines
from agent.types import JSON, Ending, WhetstoneError

RECORD, STARTED, RESULTS, LOCK = "batch.json", "started.jsonl", "results.jsonl", "lock"
OURS = (RECORD, STARTED, RESULTS, "summary.json", "report.html", "sessions", "workspaces", "data")
"""What `fresh` removes."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
FREE_SETTINGS = ("paths.", "model.threads")
"""Settings that may change between two runs of a batch without making it another one."""


@dataclass(frozen=True)
class Layout:
    """Where things are below the folder `out`."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    def workspace(self, row: GoalRow) -> Path:
        return self.out / "workspaces" / place_name(row.id)

    def memory(self, row: GoalRow) -> Path:
        """Of the goal's own memory, if it has one."""
        return self.data / "memory" / place_name(row.id)

    def journal(self, session: str) -> Path:
        return self.data / "sessions" / f"{session}{SUFFIX}"


class BatchFolder:
    """One process's hold on a batch's folder. Methods may be called from any thread.

    Raises WhetstoneError for a folder that cannot be written, that another process works in, that holds something
    else, or whose goals ran with other settings (unless `fresh`, which removes what the batch left there).
    """

    def __init__(self, out: Path, rows: Sequence[GoalRow], record: Mapping[str, JSON], *, fresh: bool = False) -> None:
        self.out = out.absolute()
        self.layout = Layout(self.out)
        self._writing = threading.Lock()
        _refuse_doubles(rows)
        trees: dict[Path, str] = {}
        self.digests = {row.id: row_digest(row, trees) for row in rows}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.out)
            try:
                self._open(record, fresh)
            except BaseException:
                os.close(self._lock)
                raise
        except OSError as error:
            raise WhetstoneError(
                f"the folder {out} cannot be written: {error.strerror}; name another with -o"
            ) from error

    def begin(self, row: GoalRow) -> str:
        """The session that `row`, as it is now, runs as: the one it was begun as, or a new one, noted on disk first."""
        digest = self.digests[row.id]
        if (row.id, digest) not in self._started:
            session = new_session_id()
            self._append(STARTED, {"id": row.id, "row": digest, "session": session})
            self._started[row.id, digest] = session
        return self._started[row.id, digest]

    def note_result(self, result: Result) -> None:
        self._append(RESULTS, result.as_data())

    def close(self) -> None:
        os.close(self._lock)

    def __enter__(self) -> BatchFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, record: Mapping[str, JSON], fresh: bool) -> None:
        there = self.out / RECORD
        if there.exists():
            if fresh:
                _remove(self.out / name for name in OURS)
            else:
                record = _unchanged(there, record)
        elif others := sorted(p.name for p in self.out.iterdir() if p.name != LOCK):
            raise WhetstoneError(
                f"{self.out} holds something that is no batch ({', '.join(others[:3])}): name an empty folder with -o"
            )
        write_whole(there, json.dumps(record, indent=1, sort_keys=True) + "\n")
        self.layout.data.mkdir(exist_ok=True)
        (self.out / "workspaces").mkdir(exist_ok=True)
        self._started = {
            (line["id"], line["row"]): line["session"]
            for line in read_lines(self.out / STARTED, mend="start again with --fresh")
        }
        self.kept = self._kept_results()
        """Results of rows that need not run again, by id."""

    def _kept_results(self) -> dict[str, Result]:
        path = self.out / RESULTS
        if not path.exists():
            return {}
        found = read_results(path)
        kept = [r for r in found if self.digests.get(r.id, r.row) == r.row and r.ending != Ending.ERROR]
        whole = "".join(json.dumps(result.as_data()) + "\n" for result in kept)
        if whole.encode() != path.read_bytes():
            write_whole(path, whole)
        return {result.id: result for result in kept}

    def _append(self, name: str, data: Mapping[str, JSON]) -> None:
        with self._writing:
            append_line(self.out / name, data, then="run the same command again")


def row_digest(row: GoalRow, trees: dict[Path, str] | None = None) -> str:
    """sha256 hex of all that a row says and of what is in its source folder, wherever that lies.

    `trees` keeps the digests of folders that several rows share.
    """
    known = {} if trees is None else trees
    if row.workspace is not None and row.workspace not in known:
        known[row.workspace] = tree_digest(row.workspace)
    said = asdict(row) | {"workspace": None if row.workspace is None else known[row.workspace]}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=list).encode()).hexdigest()


def place_name(id: str) -> str:
    """A folder name for a row's id: itself where that is one, else a name that no other id has."""
    if SAFE_NAME.fullmatch(id):
        return id
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", id).strip("-.")[:40]
    return f"{clean or 'goal'}~{hashlib.sha256(id.encode()).hexdigest()[:12]}"


def write_whole(path: Path, text: str) -> None:
    """Write a file by temporary file and rename. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _refuse_doubles(rows: Sequence[GoalRow]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise WhetstoneError(f"two goals have the id {row.id!r}: give each its own")
        seen.add(row.id)


def _locked(out: Path) -> int:
    fd = os.open(out / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise WhetstoneError(f"another process works in {out}: wait for it, or name another folder with -o") from error
    return fd


def _unchanged(there: Path, record: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """What to record now. A model that rows named before is remembered: its results may still be there.

    Raises WhetstoneError where what was recorded in `there` is no longer so.
    """
    try:
        before: Any = json.loads(there.read_text(encoding="utf-8"))
        old, new = dict(before["settings"]), dict(record["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise WhetstoneError(f"{there} is damaged: start again with --fresh, or name another folder with -o") from error
    changed = [
        f"{key} was {old.get(key)} and is {new.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
        and not key.startswith(FREE_SETTINGS)
        and ((key in old and key in new) or not key.startswith(OF_ROW))  # rows may come and go
    ]
    if changed:
        raise WhetstoneError(
            f"the goals in {there.parent} ran with other settings ({'; '.join(changed[:4])}):"
            " restore those, start again with --fresh, or name another folder with -o"
        )
    return {**record, "settings": {**{key: old[key] for key in old if key.startswith(OF_ROW)}, **new}}


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
