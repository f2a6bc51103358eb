"""The held-out suite: goals whose words, names and combinations no training goal has, fixed by a seed.

Four goals of each trained family, ten of each family that is never trained on, and sixty chains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.goalfile import GoalRow
from agent.learning.curriculum import families, task_named

SEED = 2026
TRAINED, UNSEEN = 4, 10
CHAINS: Mapping[str, int] = {"chain_saved": 20, "chain_two": 24, "chain_three": 8, "chain_find_change": 8}
"""How many goals of each family."""


def suite_ids(seed: int = SEED) -> Sequence[str]:
    """The ids of the suite's tasks, family after family."""
    counts = {
        family.name: CHAINS.get(family.name, TRAINED if family.seen else UNSEEN) for family in families().values()
    }
    return [f"{name}/heldout/{seed}/{number}" for name, count in counts.items() for number in range(count)]


def suite(seed: int = SEED) -> list[GoalRow]:
    """The goals of the suite."""
    return [task_named(id).row for id in suite_ids(seed)]


def suite_digest(rows: Sequence[GoalRow]) -> str:
    """sha256 hex over the rows as they are written: what a dataset or an evaluation records of its suite."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row_data(row), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def row_data(row: GoalRow) -> dict[str, Any]:
    """A row as one line of a goal file (`agent.goalfile`)."""
    data: dict[str, Any] = {"id": row.id, "goal": row.goal.text, "files": dict(row.files), "check": row.goal.check}
    if row.goal.answer_schema is not None:
        data["answer_schema"] = row.goal.answer_schema
    if row.remembered:
        data["remembered"] = list(row.remembered)
    return data | {"tags": list(row.goal.tags)}
