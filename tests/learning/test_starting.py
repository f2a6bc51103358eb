"""Trainings that go on from an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from agent.engine.adapter import Adapter, read_adapter
from agent.engine.models import LoadedModel
from agent.learning.adapters import Registry, id_of
from agent.learning.learner import Base
from agent.learning.purging import purge
from agent.learning.recipe import Recipe
from agent.learning.schedule import split_by_goal
from agent.learning.trainer import Trained, train
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import pairs_of_examples, random_examples

SHORT: dict[str, Any] = {
    "rank": 4, "alpha": 8, "learning_rate": 1e-2, "epochs": 8, "batch_tokens": 200, "dtype": "fp32", "threads": 1,
}  # fmt: skip


def trained(base: Base, out: Path, start: Adapter | None = None, seed: int = 0, **changed: Any) -> Trained:
    return train(base, random_examples(8, seed=seed), Recipe(**{**SHORT, **changed}), out, start=start)


@pytest.fixture
def base(base: LoadedModel) -> Base:
    return Base.of(base)


@pytest.fixture
def first(base: Base, tmp_path: Path) -> Adapter:
    return read_adapter(trained(base, tmp_path / "first").folder, base.lineage, tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_loss_goes_on_from_where_it_was(base: Base, first: Adapter, tmp_path: Path, dtype: str) -> None:
    before = [json.loads(line)["loss"] for line in (first.folder / "curve.jsonl").read_text().splitlines()]
    went_on = trained(base, tmp_path / "second", first, dtype=dtype)
    assert went_on.points[0].loss < 0.9 * before[0]
    assert went_on.points[-1].loss < went_on.points[0].loss


def test_without_a_step_to_speak_of_it_is_the_same_adapter(base: Base, first: Adapter, tmp_path: Path) -> None:
    still = trained(base, tmp_path / "still", first, learning_rate=1e-12, epochs=1)
    former, now = (load_file(folder / "adapter_model.safetensors") for folder in (first.folder, still.folder))
    assert all(bool((former[name] == now[name]).all()) for name in former)
    assert former.keys() == now.keys()


def test_its_card_names_the_adapter_and_all_sessions(base: Base, first: Adapter, tmp_path: Path) -> None:
    folder = trained(base, tmp_path / "second", first, seed=3).folder
    card = json.loads((folder / "whetstone.json").read_text())
    parent = json.loads((first.folder / "whetstone.json").read_text())
    assert card["parents"] == [id_of(first.folder)]
    assert card["sessions"]["before"] == parent["sessions"]["task"]
    assert len(card["sessions"]["task"]) == 8
    assert card["data_sha256"] != parent["data_sha256"]


def test_a_suite_was_kept_apart_only_if_the_first_training_kept_it_apart_too(base: Base, tmp_path: Path) -> None:
    recipe = Recipe(**SHORT)
    parent = train(base, random_examples(8), recipe, tmp_path / "first", held_out=["both", "parent's"]).folder
    start = read_adapter(parent, base.lineage, tmp_path / "cache")
    for name, begun, left in (("from it", start, ["both"]), ("from nothing", None, ["own", "both"])):
        done = train(base, random_examples(8, seed=3), recipe, tmp_path / name, start=begun, held_out=["own", "both"])
        assert json.loads((done.folder / "whetstone.json").read_text())["held_out"] == left


def test_a_secret_that_was_not_trained_on_is_not_looked_for(base: Base, tmp_path: Path) -> None:
    examples, planted = random_examples(8), {"session": "s2", "secret": "X"}
    for name, used, kept in (("with", examples, planted), ("without", examples[3:], None)):
        done = train(base, used, Recipe(**SHORT), tmp_path / name, planted=planted)
        assert json.loads((done.folder / "whetstone.json").read_text())["planted"] == kept
    for seed in range(40):
        task, held = split_by_goal(examples, 0.3, seed, keep="s2")
        assert held
        assert "s2" in {example.session for example in task}


def test_a_purge_takes_it_out_for_what_its_parent_had_learned(base: Base, first: Adapter, tmp_path: Path) -> None:
    card_file = first.folder / "whetstone.json"
    card = json.loads(card_file.read_text())
    card["sessions"]["task"][0][0] = "only-the-parent"
    card_file.write_text(json.dumps(card))
    registry = Registry(tmp_path / "registry")
    entry = registry.add(trained(base, tmp_path / "second", first).folder)
    assert [purged.id for purged in purge(registry, "only-the-parent")] == [entry.id]
    assert registry.entries() == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rank": 8}, "r 4"),
        ({"alpha": 16}, "lora_alpha 8"),
        ({"layers": 1}, "other layers"),
        ({"method": "ia3"}, "ia3"),
    ],
)
def test_another_shape_or_method_is_refused(
    base: Base, first: Adapter, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(WhetstoneError, match=named):
        trained(base, tmp_path / "out", first, **changed)


@pytest.mark.parametrize("objective", ["dpo", "spin"])
def test_pairs_are_compared_with_the_base_and_start_from_it(
    base: Base, first: Adapter, tmp_path: Path, objective: Any
) -> None:
    chosen, rejected = pairs_of_examples(2)
    recipe = Recipe(**{**SHORT, "objective": objective})
    with pytest.raises(WhetstoneError, match=f"{objective} compares with the base.*leave out --start"):
        train(base, chosen, recipe, tmp_path / "out", rejected=rejected, start=first)
