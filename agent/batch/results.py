"""What became of each goal of a batch: one line of `results.jsonl`, made from the goal's journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from agent.goalfile import GoalRow
from agent.journal import Session
from agent.types import JSON, Ending, WhetstoneError


@dataclass(frozen=True)
class Result:
    """One goal's outcome. `tokens` are generated tokens, `seconds` wall time of the session, resumes included.

    `journal` is relative to the batch's folder, empty (as `session` is) where the session could not be set up.
    """

    id: str
    ending: str
    answer: JSON = None
    passed: bool | None = None
    """What the check said; None where there is none, or where it was not reached."""
    detail: str = ""
    reason: str = ""
    family: str = ""
    tags: tuple[str, ...] = ()
    steps: int = 0
    tokens: int = 0
    valid: int = 0
    invalid: int = 0
    seconds: float = 0.0
    session: str = ""
    journal: str = ""
    row: str = ""
    """Digest of the row that was run."""

    @property
    def succeeded(self) -> bool:
        """The agent finished, and the check, if there is one, passed."""
        return self.ending == Ending.FINISHED

    def as_data(self) -> dict[str, JSON]:
        return asdict(self) | {"tags": list(self.tags)}

    @classmethod
    def from_data(cls, data: Mapping[str, JSON]) -> Result:
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in data.items() if key in known}
        values["tags"] = tuple(values.get("tags", ()))
        return cls(**values)

    @classmethod
    def of_session(cls, row: GoalRow, digest: str, session: Session, out: Path) -> Result:
        """The result of a session whose last event is its `end`."""
        end = session.events[-1].data
        check = end["check"] or {}
        valid = [bool(event.data["valid"]) for event in session.events if event.kind == "action"]
        return cls(
            id=row.id,
            ending=end["ending"],
            answer=end["answer"],
            passed=check.get("passed"),
            detail=check.get("detail", ""),
            reason=end["reason"],
            family=row.family,
            tags=row.goal.tags,
            steps=end["steps"],
            tokens=end["tokens"],
            valid=sum(valid),
            invalid=len(valid) - sum(valid),
            seconds=end["seconds"],
            session=session.id,
            journal=session.path.relative_to(out).as_posix(),
            row=digest,
        )


def read_results(path: Path) -> list[Result]:
    """The results in `path`, a file of lines or the folder of a batch. A torn last line is left out.

    Raises WhetstoneError for a file that cannot be read or is none.
    """
    path = path / "results.jsonl" if path.is_dir() else path
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise WhetstoneError(f"the results {path} cannot be read: {error.strerror}") from error
    found: list[Result] = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            found.append(Result.from_data(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            raise WhetstoneError(f"{path} is damaged at line {number}: restore it, or run with --fresh") from error
    return found
