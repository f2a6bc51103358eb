"""Goals that share one model: what a goal gets does not depend on who shares the forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.batch import Result, run_rows
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.settings import Settings
from agent.types import Budget, Goal, WhetstoneError
from tests.models import build_model
from tests.sessions import settings_for

BUDGET = Budget(steps=3, tokens=150, action_tokens=60)
ROWS = [
    GoalRow(f"goal-{n}", Goal(f"Read file {n} " * (1 + n % 3), budget=BUDGET), files={"a.txt": f"{n}"})
    for n in range(6)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


def decoded(results: list[Result], out: Path) -> dict[str, list[Any]]:
    """The token ids of every action of every goal."""
    return {
        r.id: [e.data["token_ids"] for e in read_session(out / r.journal).events if e.kind == "action"] for r in results
    }


def sampling(folder: Path, model: Path) -> Settings:
    more = {"model__name": str(model), "model__dtype": "fp32", "sampling__temperature": "1.0", "sampling__seed": "3"}
    return settings_for(folder, [], **more)


def test_a_result_does_not_depend_on_who_shares_the_batch(tmp_path: Path, model: Path) -> None:
    settings = sampling(tmp_path, model)
    alone = run_rows(settings, ROWS, out=tmp_path / "alone", in_flight=1)
    together = run_rows(settings, ROWS[::-1], out=tmp_path / "together", in_flight=6)
    tokens = decoded(alone, tmp_path / "alone")
    assert tokens == decoded(together, tmp_path / "together")
    assert all(any(ids) for ids in tokens.values())
    assert len({str(ids) for ids in tokens.values()}) == len(ROWS)  # each has random numbers of its own


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    settings = sampling(tmp_path, build_model(tmp_path / "model", seed=1))
    run_rows(settings, ROWS[:1], out=tmp_path / "out")
    build_model(tmp_path / "model", seed=2)
    with pytest.raises(WhetstoneError, match="model base digest was"):
        run_rows(settings, ROWS[:1], out=tmp_path / "out")
