"""Files of goals: one JSON object a line, as `batch`, `eval` and `improve` read them and the curriculum writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.types import Goal

FAMILY = "family:"
"""A tag `family:csv_sum` names the family a goal belongs to."""


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
