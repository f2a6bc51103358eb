"""Files of goals: one JSON object a line, as `batch`, `eval` and `improve` read them and the curriculum writes them.

Also read: a folder of such files, `.json` (one object, or a list of them), and CSV with a template.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from agent.check import validate_check
from agent.goal_sources import Place, given_goals
from agent.types import JSON, Budget, Goal, WhetstoneError
from tools.finish import closed_answer_schema

FAMILY = "family:"
"""A tag `family:csv_sum` names the family a goal belongs to."""
FIELDS = (
    "id",
    "goal",
    "files",
    "workspace",
    "check",
    "answer_schema",
    "budget",
    "tags",
    "remembered",
    "model",
    "seed",
)


@dataclass(frozen=True)
class GoalRow:
    """One goal to be run without a person watching.

    `files` (workspace-relative POSIX path -> text) and `workspace` (a folder that is copied) say what its workspace
    starts with; `remembered` are notes its memory starts with; `model` and `seed` override the settings.
    """

    id: str
    goal: Goal
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    workspace: Path | None = None
    remembered: tuple[str, ...] = ()
    model: str | None = None
    seed: int | None = None

    @property
    def family(self) -> str:
        """The part of the `family:` tag after the colon, empty without one."""
        return next((tag.removeprefix(FAMILY) for tag in self.goal.tags if tag.startswith(FAMILY)), "")


def read_goals(
    source: Path | str,
    *,
    budget: Budget | None = None,
    template: str | None = None,
    on_bad: Callable[[str], None] | None = None,
) -> list[GoalRow]:
    """The goals of a file, of all files of a folder, or of standard input (`-`, JSON lines).

    `budget` is what a row's own budget is laid over; `template` makes goals of CSV rows: a goal's text or a whole row
    as a JSON object, with `{column}` where a column's value goes. `on_bad` is told of each row that cannot be used, in
    one sentence with its line, and the others are read. Raises WhetstoneError for a source that cannot be read or holds
    no goal, for a template that nothing takes, and without `on_bad` for the first bad row.
    """
    rows: list[GoalRow] = []
    places: dict[str, str] = {}
    bad = 0
    for place, given in given_goals(source, template):
        try:
            row = _row(given(), place, budget or Budget())
            if row.id in places:
                raise WhetstoneError(f"the id {row.id!r} is taken by {places[row.id]}: give each goal its own")
        except WhetstoneError as error:
            bad += 1
            if on_bad is None:
                raise WhetstoneError(f"{place.name}: {error}") from error
            on_bad(f"{place.name}: {error}")
            continue
        places[row.id] = place.name
        rows.append(row)
    if not rows:
        why = f"none of its {bad} goals can be used" if bad else "it holds no goal"
        name = "standard input" if str(source) == "-" else str(source)
        raise WhetstoneError(f"there is nothing to run in {name}: {why}")
    return rows


def goal_data(row: GoalRow) -> dict[str, JSON]:
    """The row as one JSON object that `read_goals` reads back; what has its usual value is left out."""
    goal = row.goal
    usual = asdict(Budget())
    data: dict[str, JSON] = {
        "id": row.id,
        "goal": goal.text,
        "files": dict(row.files),
        "workspace": None if row.workspace is None else str(row.workspace),
        "check": goal.check,
        "answer_schema": goal.answer_schema,
        "budget": {key: value for key, value in asdict(goal.budget).items() if value != usual[key]},
        "tags": list(goal.tags),
        "remembered": list(row.remembered),
        "model": row.model,
        "seed": row.seed,
    }
    return {key: value for key, value in data.items() if value not in (None, {}, [])}


def _row(value: JSON, place: Place, budget: Budget) -> GoalRow:
    """The row, checked. Raises WhetstoneError with what is wrong and what would be right."""
    if not isinstance(value, dict):
        raise WhetstoneError(f"a goal is a JSON object, not {type(value).__name__}")
    data = {key: item for key, item in cast("dict[str, Any]", value).items() if item is not None}
    for key in data:
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"a goal has {', '.join(FIELDS)}"
            raise WhetstoneError(f"{key!r} is not known: {hint}")
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except ValueError as error:
        raise WhetstoneError(
            f"it holds half a character (a lone surrogate), which no file can hold: {error}"
        ) from error
    text = _of(data, "goal", str, "text", "")
    if not text.strip():
        raise WhetstoneError("it has no goal: say what to achieve in 'goal'")
    check = data.get("check")
    schema = _of(data, "answer_schema", dict, "an object", None)
    if schema is not None:
        closed_answer_schema(schema)
    goal = Goal(
        text=text,
        check=None if check is None else validate_check(check),
        answer_schema=schema,
        budget=_budget(_of(data, "budget", dict, "an object", {}), budget),
        tags=_texts(data, "tags"),
    )
    id = data.get("id", place.id)
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise WhetstoneError(f"'id' must be text, not {id!r}")
    seed = _of(data, "seed", int, "a number", None)
    if isinstance(seed, bool) or (seed is not None and seed < 0):
        raise WhetstoneError(f"'seed' must be a whole number from 0, not {seed!r}")
    return GoalRow(
        id=str(id),
        goal=goal,
        files=_files(_of(data, "files", dict, "an object of path and text", {})),
        workspace=_workspace(_of(data, "workspace", str, "the path of a folder", None), place.folder),
        remembered=_texts(data, "remembered"),
        model=_of(data, "model", str, "text", None),
        seed=seed,
    )


def _of(data: Mapping[str, Any], key: str, kind: type, said: str, default: Any) -> Any:
    value = data.get(key, default)
    if value is not default and not isinstance(value, kind):
        raise WhetstoneError(f"{key!r} must be {said}, not {type(value).__name__}")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values: list[Any] = _of(data, key, list, "a list of texts", [])
    if not all(isinstance(value, str) for value in values):
        raise WhetstoneError(f"{key!r} must be a list of texts")
    return tuple(values)


def _files(files: Mapping[str, Any]) -> dict[str, str]:
    for path, text in files.items():
        if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")):
            raise WhetstoneError(f"the file {path!r} lies outside the workspace: give a path like notes/a.txt")
        if not isinstance(text, str):
            raise WhetstoneError(f"the content of the file {path!r} must be text, not {type(text).__name__}")
    return dict(files)


def _workspace(path: str | None, folder: Path) -> Path | None:
    if path is None:
        return None
    found = folder / Path(path).expanduser()
    if not found.is_dir():
        raise WhetstoneError(f"its workspace {found} is not a folder: name one that is")
    return found


def _budget(given: Mapping[str, Any], usual: Budget) -> Budget:
    for key, value in given.items():
        if key not in asdict(usual):
            raise WhetstoneError(f"the budget has no {key!r}: it has {', '.join(asdict(usual))}")
        whole = isinstance(value, int) or key == "seconds"
        if isinstance(value, bool) or not isinstance(value, int | float) or not whole or not 0 < value < 1e12:
            raise WhetstoneError(f"the budget's {key!r} must be a number above 0, not {value!r}")
    return replace(usual, **given)
