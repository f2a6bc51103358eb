"""What is worth remembering of a session: from journal events to memory records.

The journal is the truth and the index is derived from it, so this is a pure function of one session's events: the live
run and a rebuild get the same records, with the same ids.
"""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.types import Event, MemoryKind, MemoryRecord
from memory.heard import Heard

Trust = Literal["user", "model", "untrusted"]

_RECORD_CHARS = 600
_OUTCOME_CHARS = 1000
_ARGUMENT_CHARS = 100
_SILENT_TOOLS = frozenset({"finish", "recall", "remember"})
_EXCEPTIONS = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type) and "Err" in name)
"""Names that Python gives to errors, which nobody else has worded."""


def trust(origin: str) -> Trust:
    """How far a record's words may be believed: what came out of a tool may be anybody's, and is only ever quoted."""
    if origin == "user":
        return "user"
    return "model" if origin == "model" else "untrusted"


def embedded_text(record: MemoryRecord) -> str:
    """What of a record its vector stands for: of a document's place only the file's name, not the folders above it."""
    if record.kind != "document":
        return record.text
    place, _, passage = record.text.partition("\n")
    name = place.rpartition("/")[2].rpartition(":")[0]
    return f"{name}\n{passage}"


class Deriver:
    """Feeds on the events of one session, in order, and gives back the records each one completes."""

    def __init__(self) -> None:
        self._session = ""
        self._goal = ""
        self._action: Mapping[str, Any] = {}
        self._worked: list[str] = []
        self._failures: dict[str, list[_Failure]] = {}
        """By tool and last line of what it said."""
        self._successes: list[tuple[int, str]] = []
        """Step and tool."""
        self._heard = Heard()

    def feed(self, event: Event) -> list[MemoryRecord]:
        """The records that `event` completes; most events complete none, an observation or an end one."""
        data = event.data
        if event.kind == "session":
            self._session = str(data["session"])
            self._goal = str(data["goal"]["text"])
            self._heard.own(self._goal)
        elif event.kind == "action":
            self._action = data
        elif event.kind == "recall":
            for record in data["records"]:
                if trust(origin := str(record.get("origin", ""))) == "untrusted":
                    self._heard.tool(origin.removeprefix("tool:"), str(record.get("text", "")))
        elif event.kind == "observation":
            return self._from_observation(event)
        elif event.kind == "end":
            return self._from_end(event)
        return []

    def _from_observation(self, event: Event) -> list[MemoryRecord]:
        data = event.data
        status, tool = data["status"], str(self._action.get("tool") or "")
        if not tool or self._action.get("step") != data["step"] or status not in ("ok", "error"):
            return []
        args = self._action.get("args") or {}
        call = f"{tool}({_arguments_text(args)})"
        self._learn(int(data["step"]), tool, call, status, str(data["text"]))
        if tool == "remember" and status == "ok":
            note = _clip(_noted_text(args), _RECORD_CHARS)
            return [self._record(event, "note", note, "model", 0.8)] if note else []
        if tool in _SILENT_TOOLS:
            return []
        text = f"{call} -> {status}: {' '.join(str(data['text']).split())}"
        importance = 0.5 if data.get("files") else 0.4 if status == "ok" else 0.35
        return [self._record(event, "observation", _clip(text, _RECORD_CHARS), f"tool:{tool}", importance)]

    def _learn(self, step: int, tool: str, call: str, status: str, text: str) -> None:
        if status == "ok":
            if tool not in _SILENT_TOOLS:
                self._successes.append((step, tool))
                if call not in self._worked:
                    self._worked.append(call)
        else:
            # A traceback tells what happened in its last line, and a plain error has but one.
            said = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
            self._failures.setdefault(f"{tool}: {said}", []).append(_Failure(step, tool, call, said))
        self._heard.own(" ".join(map(_value_text, (self._action.get("args") or {}).values())))
        if tool not in _SILENT_TOOLS:
            self._heard.tool(tool, text)

    def _from_end(self, event: Event) -> list[MemoryRecord]:
        """The outcome and what was learned; apart from them what tools said, for it may be anybody's words.

        Where an argument or the answer repeats what a tool said, the outcome is that tool's.
        """
        data, check = event.data, event.data.get("check")
        failures = max(self._failures.values(), key=len, default=[])
        records: list[MemoryRecord] = []
        if check is not None and check["passed"] and (lesson := self._lesson(failures)):
            records.append(self._record(event, "lesson", lesson, "model", 0.9))
        goal = f"Goal: {_clip(self._goal, 250)}"
        if check is not None and not check["passed"] and check.get("detail"):
            said = f"{goal}\nThe check said: {_clip(str(check['detail']), 250)}"
            records.append(self._record(event, "observation", said, "tool:check", 0.5))
        if failures:
            last = failures[-1]
            said = f"{goal}\nCostliest error, {_times(failures)}: {_clip(last.call, 200)}: {_clip(last.said, 200)}"
            records.append(self._record(event, "observation", said, f"tool:{last.tool}", 0.5))
        text = self._outcome_text(data, failures)
        source = self._heard.source(text)
        origin = f"tool:{source}" if source else "model"
        return [*records, self._record(event, "outcome", text, origin, _outcome_importance(data))]

    def _outcome_text(self, data: Mapping[str, Any], failures: Sequence[_Failure]) -> str:
        check = data.get("check")
        verdict = "no check" if check is None else "check passed" if check["passed"] else "check failed"
        lines = [f"Goal: {_clip(self._goal, 250)}", f"Ending: {data['ending']} ({verdict})"]
        if data.get("answer") is not None:
            lines.append(f"Answer: {_clip(_value_text(data['answer']), 250)}")
        if self._worked:
            lines.append(f"Steps that worked: {_clip('; '.join(self._worked), 300)}")
        if failures:
            last = failures[-1]
            lines.append(f"Costliest error, {_times(failures)}: {_clip(last.call, 200)} {last.told}, step {last.step}")
        return _clip("\n".join(lines), _OUTCOME_CHARS)

    def _lesson(self, failures: Sequence[_Failure]) -> str:
        """What came after the costliest error and led to success, in the goal's words and our own."""
        if not failures:
            return ""
        last = failures[-1]
        after = list(dict.fromkeys(tool for step, tool in self._successes if step > last.step))
        if not after:
            return ""
        failed = f"{last.tool} {last.told}" + ("" if len(failures) == 1 else f" {len(failures)} times")
        return f"For a goal like this, {failed}, then {', '.join(after)} worked: {_clip(self._goal, 250)}"

    def _record(self, event: Event, kind: MemoryKind, text: str, origin: str, importance: float) -> MemoryRecord:
        step = int(event.data.get("step", event.data.get("steps", 0)))
        return MemoryRecord(
            id=record_id(self._session, str(step), kind, text),
            text=text,
            kind=kind,
            origin=origin,
            session=self._session,
            step=step,
            goal=self._goal,
            created=event.time,
            importance=importance,
        )


@dataclass(frozen=True)
class _Failure:
    """A step that ended in an error."""

    step: int
    tool: str
    call: str
    said: str
    """The last line of what the tool said."""

    @property
    def told(self) -> str:
        """That it failed, in words that no tool has chosen."""
        name = self.said.partition(":")[0]
        return f"failed with {name}" if name in _EXCEPTIONS else "failed"


def derive(events: Iterable[Event]) -> list[MemoryRecord]:
    """All records of one session's events."""
    deriver = Deriver()
    return [record for event in events for record in deriver.feed(event)]


def record_id(*parts: str) -> str:
    """A short digest that names a record by where it came from and what it says."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _outcome_importance(data: Mapping[str, Any]) -> float:
    """Verified success above plain success above failure: the order in which outcomes of similar goals are recalled."""
    if data["ending"] == "finished":
        return 1.0 if data.get("check") else 0.85
    return 0.3 if data["ending"] == "interrupted" else 0.6


def _times(failures: Sequence[_Failure]) -> str:
    return "once" if len(failures) == 1 else f"{len(failures)} times"


def _noted_text(args: Mapping[str, Any]) -> str:
    text = args.get("text")
    return text if isinstance(text, str) else next((v for v in args.values() if isinstance(v, str)), "")


def _arguments_text(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_clip(_value_text(value), _ARGUMENT_CHARS)}" for name, value in args.items())


def _value_text(value: Any) -> str:
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())


def _clip(text: str, limit: int) -> str:
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
