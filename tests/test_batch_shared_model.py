"""Goals that share one model: what a goal gets does not depend on who shares the forward passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Result, run_rows
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.settings import Settings
from agent.types import Budget, Goal, WhetstoneError
from tests.models import build_adapter, build_model
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


def sampling(folder: Path, model: Path, **more: Any) -> Settings:
    usual = {"model__name": str(model), "model__dtype": "fp32", "sampling__temperature": "1.0", "sampling__seed": "3"}
    return settings_for(folder, [], **usual, **more)


def test_a_result_does_not_depend_on_who_shares_the_batch(tmp_path: Path, model: Path) -> None:
    settings = sampling(tmp_path, model)
    alone = run_rows(settings, ROWS, out=tmp_path / "alone", in_flight=1)
    together = run_rows(settings, ROWS[::-1], out=tmp_path / "together", in_flight=6)
    tokens = decoded(alone, tmp_path / "alone")
    assert tokens == decoded(together, tmp_path / "together")
    assert all(any(ids) for ids in tokens.values())
    assert len({str(ids) for ids in tokens.values()}) == len(ROWS)  # each has random numbers of its own


def test_a_slow_tool_holds_up_nobody_but_its_own_goal(tmp_path: Path, model: Path) -> None:
    chosen = {"tools__plugins": ["tests.side_effects:hold_up"], "tools__enabled": ["hold_up"]}
    settings, out = sampling(tmp_path, model, **chosen), tmp_path / "out"
    rows = [replace(row, goal=replace(row.goal, budget=replace(BUDGET, steps=4, tokens=600))) for row in ROWS]
    ended: list[str] = []

    def release(result: Result) -> None:
        ended.append(result.id)
        if len(ended) == len(rows) - 1:
            (out / "release").touch()

    results = run_rows(settings, rows, out=out, in_flight=len(rows), on_result=release)
    said = {
        r.id: [e.data["text"] for e in read_session(out / r.journal).events if e.kind == "observation"] for r in results
    }
    assert (out / "held").exists(), "no goal asked for the slow tool"
    assert "released" in said[ended[-1]], "the others ended while it was held"
    assert "went by" in str(said), "others used tools meanwhile"
    assert "held too long" not in str(said)


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    settings = sampling(tmp_path, build_model(tmp_path / "model", seed=1))
    run_rows(settings, ROWS[:1], out=tmp_path / "out")
    build_model(tmp_path / "model", seed=2)
    with pytest.raises(WhetstoneError, match="model base digest was"):
        run_rows(settings, ROWS[:1], out=tmp_path / "out")


def test_a_row_runs_with_its_own_model_and_never_with_anothers_adapter(tmp_path: Path, model: Path) -> None:
    # Of another width: the settings' adapter does not even fit.
    other = build_model(tmp_path / "other", seed=4, hidden_size=64)
    settings = settings_for(
        tmp_path, [], model__name=str(model), model__adapter=str(build_adapter(tmp_path / "lora", model))
    )
    rows = [ROWS[0], replace(ROWS[1], model=str(other)), replace(ROWS[2], model=str(model))]
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=3)
    assert [r.ending for r in results if r.ending == "error"] == []
    ran = [read_session(tmp_path / "out" / r.journal).header["policy"] for r in results]
    assert [p["name"] for p in ran] == [str(model), str(other), str(model)]
    assert [p["adapter"] is not None for p in ran] == [True, False, True]


def test_a_changed_model_that_only_a_row_names_is_refused(tmp_path: Path, model: Path) -> None:
    settings, out = sampling(tmp_path, model), tmp_path / "out"
    own = replace(ROWS[0], model=str(build_model(tmp_path / "own", seed=1)))
    first = run_rows(settings, [own], out=out)
    # Rows with other models may come, also one whose model is not there: only that row says so.
    more = [replace(ROWS[1], model=str(build_model(tmp_path / "more", seed=2))), replace(ROWS[2], model="./nowhere")]
    results = run_rows(settings, [own, *more], out=out, in_flight=3)
    assert results[0] == first[0]
    assert ([r.ending == "error" for r in results], results[2].reason[:15]) == ([False, False, True], "there is no mod")
    run_rows(settings, ROWS[3:4], out=out)  # rows may go too; what they ran with stays known
    build_model(tmp_path / "own", seed=3)
    with pytest.raises(WhetstoneError, match=r"row's model .*own: base digest was"):
        run_rows(settings, [own], out=out)
    assert run_rows(settings, [own], out=out, fresh=True)[0].session != first[0].session
