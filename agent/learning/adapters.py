"""The registry: every adapter that was ever a candidate, what it was made of, and which one is in use.

An adapter lies below its id, which is made from its weights, its configuration and the base it belongs to, so the same
adapter has the same id and a changed one is found out. What happened to it (added, judged by the gate, promoted, rolled
back, removed) is a line of `log.jsonl`, which only grows; what is in use is derived from it. Nothing here is ever
promoted by writing a file: `promote` asks for a passed gate, or for the word that there was none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal

from agent.engine.adapter import CARD, CONFIG, WEIGHTS, Lineage, check_files
from agent.engine.digests import write_whole
from agent.engine.ensemble import ENSEMBLE
from agent.lines import append_line, read_lines
from agent.types import JSON, WhetstoneError

LOG = "log.jsonl"
State = Literal["candidate", "promoted", "former", "rejected", "removed"]
_LINEAGE = ("base_digest", "tokenizer_digest", "template_digest")
_GONE = ".removed"
_MACHINE = ("base_model_name_or_path", "revision", "peft_version")
"""What peft writes into the configuration about the machine it ran on."""


@dataclass(frozen=True)
class Entry:
    """One adapter of the registry. `gates` are all verdicts there ever were on it, the last one last."""

    id: str
    folder: Path
    card: Mapping[str, Any]
    state: State
    added: float
    gates: tuple[Mapping[str, Any], ...] = ()

    @property
    def lineage(self) -> Lineage:
        return Lineage(*(str(self.card[key]) for key in _LINEAGE))

    @property
    def passed(self) -> bool:
        """Whether the gate's last word on it was to promote it."""
        return bool(self.gates) and self.gates[-1]["verdict"] == "promote"

    @property
    def sessions(self) -> frozenset[str]:
        """The sessions it was trained on, replayed ones included, as far as its card names them."""
        sources: Mapping[str, Any] = self.card.get("sessions") or {}
        return frozenset(session for used in sources.values() for session, _digest in used)


class Registry:
    """The registry in a folder, which need not exist yet. Any number of processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, source: Path, **provenance: JSON) -> Entry:
        """Copy the adapter in `source` (as the trainer leaves it, or an ensemble) in as a candidate.

        `provenance` is added to its card: sessions, dataset, parents. An adapter that is there already stays as it is.
        Raises WhetstoneError if it is none, or if its card does not vouch for its files.
        """
        card = {**_checked_card(source), **provenance}
        id = adapter_id(source, card)
        place = self.folder / id
        with self._alone():
            if not place.is_dir():
                fresh = self.folder / f".{id}-{os.getpid()}"
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("checkpoint*", "*.tmp"))
                write_whole(fresh / CARD, json.dumps(card, indent=2))
                fresh.rename(place)
            if not any(line["event"] == "added" and line["adapter"] == id for line in self._live_lines()):
                self._log("added", id, lineage=_key(card))
        return self.find(id)

    def entries(self) -> list[Entry]:
        """All adapters, oldest first. Those that were removed are not among them; the log remembers them."""
        return list(self._fold().entries.values())

    def find(self, id: str) -> Entry:
        """The adapter whose id begins so. Raises WhetstoneError if there is none, or several."""
        matches = [entry for entry in self.entries() if entry.id.startswith(id)] if id else []
        if len(matches) != 1:
            some = ", ".join(entry.id for entry in matches[:4])
            problem = f"{len(matches)} adapters match {id!r} ({some})" if matches else f"there is no adapter {id!r}"
            raise WhetstoneError(f"{problem}: `adapters list` shows them")
        return matches[0]

    def promoted(self, lineage: Lineage) -> Entry | None:
        """The adapter in use for a base, None if there is none."""
        fold = self._fold()
        stack = fold.stacks.get(_key_of(lineage), [])
        return fold.entries[stack[-1]] if stack else None

    def promote(self, id: str, *, without_gate: bool = False) -> Entry:
        """Put an adapter in use. Raises WhetstoneError if the gate did not pass it, unless `without_gate`."""
        entry = self.find(id)
        if not entry.passed and not without_gate:
            said = f"said {entry.gates[-1]['verdict']}" if entry.gates else "has not judged it"
            raise WhetstoneError(
                f"adapter {entry.id} is not promoted because the gate {said}: run `gate {entry.id} SUITE`, or insist"
                " with --without-gate"
            )
        check_entry(entry)
        if entry.state == "promoted":
            return entry
        if not without_gate:
            self._refuse_another(entry)
        self._log("promoted", entry.id, lineage=_key(entry.card), gate=entry.passed)
        return self.find(entry.id)

    def _refuse_another(self, entry: Entry) -> None:
        """Raise WhetstoneError if another adapter is in use than the one that the gate compared `entry` with."""
        from agent.learning.chosen import automatic

        folder = automatic(self, entry.lineage)
        incumbent = entry.gates[-1].get("incumbent")
        now = "none" if folder is None else id_of(folder)
        if incumbent not in (None, now):
            raise WhetstoneError(
                f"adapter {entry.id} is not promoted because the gate compared it with {incumbent}, and {now} is in use"
                f" now: run `gate {entry.id} SUITE` again, or insist with --without-gate"
            )

    def rollback(self, lineage: Lineage) -> tuple[Entry, Entry | None]:
        """Take the adapter in use out of use; the one before it, or none, is in use again. Returns both.

        Raises WhetstoneError if none is in use.
        """
        current = self.promoted(lineage)
        if current is None:
            raise WhetstoneError("no adapter is in use for this base, so there is nothing to roll back")
        self._log("rolled_back", current.id, lineage=_key_of(lineage))
        return current, self.promoted(lineage)

    def record_gate(self, id: str, verdict: Mapping[str, JSON]) -> Entry:
        """Keep a verdict of the gate (`verdict`, `reasons`, and all it rests on) for ever."""
        self._log("gate", self.find(id).id, gate=dict(verdict))
        return self.find(id)

    def remove(self, id: str, *, reason: str = "") -> Entry:
        """Remove an adapter's files; its history stays. Raises WhetstoneError if it is in use, by itself or in an
        ensemble."""
        entry = self.find(id)
        fold = self._fold()
        for used in [fold.entries[one] for stack in fold.stacks.values() for one in stack]:
            if used.state == "promoted" and used.id == entry.id:
                raise WhetstoneError(f"adapter {entry.id} is in use: `adapters rollback` first")
            if used.card.get("kind") == "ensemble" and entry.id in used.card.get("parents", ()):
                raise WhetstoneError(
                    f"adapter {entry.id} is a member of the ensemble {used.id}, which is in use or would be after a"
                    " rollback: `adapters rollback` until it is not, or remove the ensemble first"
                )
        self._log("removed", entry.id, reason=reason)
        self.sweep()
        return entry

    def sweep(self) -> None:
        """Delete the files of adapters that were removed, also those that a removal cut short left."""
        if not self.folder.is_dir():
            return
        with self._alone():
            there = {line["adapter"] for line in self._live_lines() if line["event"] == "added"}
            for gone in {line["adapter"] for line in self.history() if line["event"] == "removed"} - there:
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / gone).rename(self.folder / f".{gone}{_GONE}")  # `add` must not find half of it
            for folder in self.folder.glob(f".*{_GONE}"):
                shutil.rmtree(folder)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """No other process adds or deletes files meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def history(self) -> list[dict[str, Any]]:
        """Every line of the log, oldest first. Raises WhetstoneError if it cannot be read."""
        return read_lines(self.folder / LOG)

    def _live_lines(self) -> list[dict[str, Any]]:
        """The log without what happened to adapters before they were removed, but with the verdicts on them."""
        lines: list[dict[str, Any]] = []
        for line in self.history():
            if line["event"] == "removed":
                lines = [kept for kept in lines if kept["adapter"] != line["adapter"] or kept["event"] == "gate"]
            else:
                lines.append(line)
        return lines

    def _fold(self) -> _Fold:
        fold = _Fold()
        for line in self._live_lines():
            id, event = line["adapter"], line["event"]
            if event == "added":
                fold.added[id] = line["time"]
            elif event == "gate":
                fold.gates.setdefault(id, []).append({"time": line["time"], **line["gate"]})
            elif event == "promoted":
                fold.stacks.setdefault(line["lineage"], []).append(id)
                fold.ever.add(id)
            elif event == "rolled_back" and fold.stacks.get(line["lineage"]):
                fold.stacks[line["lineage"]].pop()
        for id in fold.added:
            fold.entries[id] = self._entry(id, fold)
        return fold

    def _entry(self, id: str, fold: _Fold) -> Entry:
        gates = tuple(fold.gates.get(id, ()))
        state: State = "candidate"
        if any(stack and stack[-1] == id for stack in fold.stacks.values()):
            state = "promoted"
        elif id in fold.ever:
            state = "former"
        elif gates and gates[-1]["verdict"] == "reject":
            state = "rejected"
        folder = self.folder / id
        return Entry(id, folder, _read_json(folder / CARD), state, fold.added[id], gates)

    def _log(self, event: str, adapter: str, **fields: JSON) -> None:
        append_line(self.folder / LOG, {"time": time.time(), "event": event, "adapter": adapter, **fields})


@dataclass
class _Fold:
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    added: dict[str, float] = field(default_factory=dict[str, float])
    gates: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    stacks: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """What was promoted for each base, the one in use last."""
    ever: set[str] = field(default_factory=set[str])


def adapter_id(folder: Path, card: Mapping[str, Any]) -> str:
    """12 hex characters that name an adapter by its weights, its configuration and its base."""
    if (folder / ENSEMBLE).is_file():
        content: list[Any] = [_read_json(folder / ENSEMBLE)]
    else:
        config = {key: value for key, value in _read_json(folder / CONFIG).items() if key not in _MACHINE}
        content = [_digest(folder / WEIGHTS), config]
    parts = [*content, *(card[key] for key in _LINEAGE)]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def id_of(folder: Path) -> str:
    """The id of the adapter in a folder, registered or not. Raises WhetstoneError if it has no card."""
    return adapter_id(folder, _read_json(folder / CARD))


def check_entry(entry: Entry) -> None:
    """Raise WhetstoneError if an adapter's files are not those it was registered with."""
    try:
        same = adapter_id(entry.folder, entry.card) == entry.id
    except (OSError, KeyError) as error:
        raise WhetstoneError(
            f"adapter {entry.id} cannot be read ({error}): `adapters rollback`, then `adapters rm {entry.id}`"
        ) from error
    if not same:
        raise WhetstoneError(
            f"adapter {entry.id} is damaged, its files are not those it was registered with: `adapters rollback` uses"
            f" the one before it, `adapters rm {entry.id}` removes it"
        )


def _checked_card(source: Path) -> dict[str, Any]:
    if (source / ENSEMBLE).is_file():
        return _read_json(source / CARD)
    if not (source / CONFIG).is_file() or not (source / WEIGHTS).is_file():
        raise WhetstoneError(f"{source} is not an adapter: it needs {CONFIG} and {WEIGHTS}")
    if not (source / CARD).is_file():
        raise WhetstoneError(f"{source} has no {CARD}, so nothing says what it was trained on: train it with `train`")
    card = _read_json(source / CARD)
    check_files(source, card)
    return card


def _key(card: Mapping[str, Any]) -> str:
    return _key_of(Lineage(*(str(card[key]) for key in _LINEAGE)))


def _key_of(lineage: Lineage) -> str:
    parts = (lineage.base_digest, lineage.tokenizer_digest, lineage.template_digest)
    return sha256(" ".join(parts).encode()).hexdigest()[:16]


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{path} cannot be read ({error}): restore the adapter, or train it again") from error
