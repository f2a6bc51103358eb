"""The registry: nothing is used that was not vouched for, and every step back is exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.engine.adapter import WEIGHTS, write_card
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.learning.adapters import Registry
from agent.learning.combining import write_ensemble, write_merged, write_weighted
from agent.policies.local import Bases, LocalPolicy, load_chosen
from agent.settings import Settings, load_settings
from agent.types import Message, Prompt, WhetstoneError
from tests.models import build_adapter, build_model, tool_schema

PASSED = {"verdict": "promote", "reasons": ["better"]}


class World:
    """A base, its registry, and adapters with random weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = build_model(folder / "base")
        self.base = load_model(str(self.model), dtype="fp32", cache=folder / "cache")
        self.registry = Registry(folder / "data" / "adapters")

    def trained(self, seed: int, **options: Any) -> Path:
        folder = build_adapter(self.folder / f"trained-{seed}", self.model, seed=seed, **options)
        write_card(folder, self.base.lineage, sessions={"task": [[f"s{seed}", "d"]]}, recipe={"rank": 4})
        return folder

    def settings(self, adapter: str = "auto", model: Path | None = None) -> Settings:
        flags = {
            "model.name": str(model or self.model), "model.adapter": adapter, "model.dtype": "fp32",
            "paths.data": str(self.folder / "data"), "paths.cache": str(self.folder / "cache"),
        }  # fmt: skip
        return load_settings(flags, env={}, folder=self.folder)

    def says(self, adapter: str = "auto") -> tuple[int, ...]:
        """The tokens that greedy decoding gives with an adapter."""
        policy = LocalPolicy.open(self.settings(adapter), "s")
        prompt = Prompt((Message("user", "Goal: read the file and count.", "goal"),))
        done = policy.act(
            prompt, tool_schema(), step=1, max_tokens=60, deadline=float("inf"),
            on_text=lambda _: None, cancelled=lambda: False,
        )  # fmt: skip
        return done.token_ids


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_rollback_restores_the_former_behaviour_token_for_token(world: World) -> None:
    one, two = (world.registry.add(world.trained(seed)) for seed in (1, 2))
    bare = world.says()
    assert bare == world.says("none")
    for entry in (one, two):
        world.registry.record_gate(entry.id, PASSED)
    world.registry.promote(one.id)
    with_one = world.says()
    world.registry.promote(two.id)
    with_two = world.says()
    assert len({bare, with_one, with_two}) == 3
    world.registry.rollback(world.base.lineage)
    assert world.says() == with_one == world.says(one.id)
    world.registry.rollback(world.base.lineage)
    assert world.says() == bare
    with pytest.raises(WhetstoneError, match="nothing to roll back"):
        world.registry.rollback(world.base.lineage)


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_running_process_changes_adapters_without_reading_the_base_again(
    world: World, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (world.registry.add(world.trained(seed)) for seed in (1, 2))
    settings = world.settings()
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": dtype})})
    named = [settings.model_copy(update={"model": settings.model.model_copy(update={"adapter": name})})
             for name in ("none", one.id, two.id)]  # fmt: skip
    bare, with_one, with_two = (logits(load_chosen(each)) for each in named)
    bases = Bases()
    assert torch.equal(logits(load_chosen(settings, bases)), bare)
    monkeypatch.setattr("agent.engine.models._mapped", lambda _: pytest.fail("the base was read again"))
    world.registry.promote(one.id, without_gate=True)
    assert torch.equal(logits(load_chosen(settings, bases)), with_one)
    world.registry.promote(two.id, without_gate=True)
    assert torch.equal(logits(load_chosen(settings, bases)), with_two)
    world.registry.rollback(world.base.lineage)
    assert torch.equal(logits(load_chosen(settings, bases)), with_one)
    world.registry.rollback(world.base.lineage)
    assert torch.equal(logits(load_chosen(settings, bases)), bare)
    assert not torch.equal(with_one, with_two)
    assert not torch.equal(bare, with_one)


@pytest.mark.parametrize("used", [False, True])
def test_a_base_that_was_exchanged_while_it_was_open_is_refused(world: World, tmp_path: Path, used: bool) -> None:
    entry = world.registry.add(world.trained(1))
    other = build_model(tmp_path / "other", seed=7)
    bases = Bases()
    bases.open(world.settings())
    if used:
        load_chosen(world.settings(), bases)
    (other / "model.safetensors").rename(world.model / "model.safetensors")
    for adapter in ("none", entry.id):
        with pytest.raises(WhetstoneError, match="changed on disk while it was in use"):
            load_chosen(world.settings(adapter), bases)


def test_a_verdict_against_an_adapter_that_is_not_in_use_any_more_promotes_nothing(world: World) -> None:
    one, two = (world.registry.add(world.trained(seed)) for seed in (1, 2))
    for entry in (one, two):
        world.registry.record_gate(entry.id, {**PASSED, "incumbent": "none"})
    world.registry.promote(one.id)
    with pytest.raises(WhetstoneError, match=f"compared it with none, and {one.id} is in use"):
        world.registry.promote(two.id)
    world.registry.record_gate(two.id, {**PASSED, "incumbent": one.id})
    assert world.registry.promote(two.id).state == "promoted"


def test_nothing_is_promoted_that_the_gate_did_not_pass(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    with pytest.raises(WhetstoneError, match="the gate has not judged it"):
        world.registry.promote(entry.id)
    world.registry.record_gate(entry.id, {"verdict": "reject", "reasons": ["worse"]})
    with pytest.raises(WhetstoneError, match="the gate said reject"):
        world.registry.promote(entry.id)
    assert world.registry.promoted(world.base.lineage) is None
    assert world.registry.promote(entry.id, without_gate=True).state == "promoted"
    assert [line["gate"] for line in world.registry.history() if line["event"] == "promoted"] == [False]


def test_verdicts_and_removals_are_kept_for_ever(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    world.registry.record_gate(entry.id, {"verdict": "inconclusive", "reasons": ["too few goals"]})
    world.registry.record_gate(entry.id, {"verdict": "reject", "reasons": ["worse"]})
    assert [gate["verdict"] for gate in world.registry.find(entry.id).gates] == ["inconclusive", "reject"]
    world.registry.remove(entry.id)
    assert world.registry.entries() == []
    assert [line["event"] for line in world.registry.history()] == ["added", "gate", "gate", "removed"]
    assert world.registry.entries() == []
    again = world.registry.add(world.folder / "trained-1")
    assert len(again.gates) == 2


def test_the_same_adapter_has_the_same_id_and_is_kept_once(world: World) -> None:
    folder = world.trained(1)
    assert world.registry.add(folder).id == world.registry.add(folder).id
    assert len(world.registry.entries()) == 1
    assert world.registry.add(world.trained(2)).id != world.registry.entries()[0].id


@pytest.mark.parametrize("where", ["weights", "card"])
def test_a_corrupted_adapter_is_neither_taken_in_nor_used(world: World, where: str) -> None:
    folder = world.trained(1)
    good = world.registry.add(folder)
    world.registry.promote(good.id, without_gate=True)
    for place in (folder, good.folder):
        if where == "weights":
            raw = bytearray((place / WEIGHTS).read_bytes())
            raw[-7] ^= 1
            (place / WEIGHTS).write_bytes(raw)
        else:
            card = json.loads((place / "whetstone.json").read_text())
            (place / "whetstone.json").write_text(json.dumps({**card, "base_digest": "0" * 64}))
    with pytest.raises(WhetstoneError, match=r"is damaged, its files are not those"):
        world.says()
    if where == "weights":
        with pytest.raises(WhetstoneError, match="are not what its"):
            world.registry.add(folder)


def test_another_base_gets_none_of_them(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    world.registry.promote(entry.id, without_gate=True)
    swapped = build_model(world.folder / "other", seed=5)
    assert load_chosen(world.settings(model=swapped)).adapter is None
    assert load_chosen(world.settings()).adapter is not None
    with pytest.raises(WhetstoneError, match="another base model"):
        load_chosen(world.settings(entry.id, model=swapped))


def test_an_adapter_in_use_cannot_be_removed(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    world.registry.promote(entry.id, without_gate=True)
    with pytest.raises(WhetstoneError, match="is in use"):
        world.registry.remove(entry.id)


def test_a_member_of_an_ensemble_in_use_cannot_be_removed(world: World) -> None:
    members = [world.registry.add(world.trained(seed)) for seed in (1, 2)]
    together = world.registry.add(write_ensemble(world.folder / "e", members))
    alone = world.registry.add(world.trained(3))
    for entry in (together, alone):  # the ensemble is what a rollback goes back to
        world.registry.promote(entry.id, without_gate=True)
        with pytest.raises(WhetstoneError, match=f"is a member of the ensemble {together.id}"):
            world.registry.remove(members[0].id)
    world.registry.rollback(world.base.lineage)
    assert world.says() == world.says(together.id)
    world.registry.rollback(world.base.lineage)
    world.registry.remove(members[0].id)


def logits(loaded: LoadedModel) -> torch.Tensor:
    cache = loaded.model.new_cache()
    with torch.inference_mode():
        ids = loaded.tokenizer.encode("Goal: read the file.")
        first = loaded.model.forward([Row(cache, ids[:-2])])
        cache.ids += ids[:-2]
        del first
        return loaded.model.forward([Row(cache, ids[-2:])])[0]


def test_an_ensemble_averages_the_probabilities_of_its_members(world: World) -> None:
    members = [world.registry.add(world.trained(seed)) for seed in (1, 2, 3)]
    together = world.registry.add(write_ensemble(world.folder / "e", members))
    alone = [logits(load_chosen(world.settings(member.id))).softmax(-1) for member in members]
    loaded = load_chosen(world.settings(together.id))
    assert torch.allclose(logits(loaded).exp(), torch.stack(alone).mean(0), atol=1e-6)
    assert world.says(together.id)
    assert loaded.adapter is not None
    assert together.sessions == {"s1", "s2", "s3"}


def test_members_of_an_ensemble_have_one_number_format(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` asks for each network by itself, and may find that int8 will do for one and not for another."""
    from agent.engine import choice

    chosen = iter(("int8", "fp32"))
    monkeypatch.setattr(choice, "choose_dtype", lambda build, *_, **__: (build(next(chosen)), "by turns"))
    members = [world.registry.add(world.trained(seed)) for seed in (1, 2)]
    together = world.registry.add(write_ensemble(world.folder / "e", members))
    settings = world.settings(together.id)
    model = settings.model.model_copy(update={"dtype": "auto"})
    loaded = load_chosen(settings.model_copy(update={"model": model}))
    assert loaded.dtype == "int8"
    assert logits(loaded).isfinite().all()
    assert next(chosen) == "fp32", "only the first was asked"


def test_an_ensemble_notices_that_a_member_is_gone(world: World) -> None:
    members = [world.registry.add(world.trained(seed)) for seed in (1, 2)]
    together = world.registry.add(write_ensemble(world.folder / "e", members))
    world.registry.remove(members[0].id)
    with pytest.raises(WhetstoneError, match="which is gone"):
        world.says(together.id)


def test_a_weighted_merge_changes_the_base_by_the_weighted_sum(world: World) -> None:
    first = world.registry.add(world.trained(1, r=4, lora_alpha=8))
    second = world.registry.add(world.trained(2, r=2, lora_alpha=2))
    folder = write_weighted(world.folder / "w", [first, second], [0.75, -0.5], cache=world.folder / "cache")
    merged = world.registry.add(folder)
    states = [_delta(world, id) for id in (first.id, second.id, merged.id)]
    for name, change in states[2].items():
        expected = 0.75 * states[0][name] - 0.5 * states[1][name]
        assert torch.allclose(change, expected, atol=1e-5), name
    assert any(change.abs().max() > 0.01 for change in states[2].values())
    assert merged.sessions == {"s1", "s2"}
    kept = [
        replace(one, card={**one.card, "held_out": apart, "data_sha256": one.id})
        for one, apart in ((first, ["a", "b"]), (second, ["b"]))
    ]
    both = write_weighted(world.folder / "kept", kept, [1, 1], cache=world.folder / "cache")
    card = json.loads((both / "whetstone.json").read_text())
    assert card["held_out"] == ["b"]
    assert [made["data_sha256"] for made in card["made_of"]] == card["parents"] == [first.id, second.id]
    of_both = replace(first, card=card)
    again = write_weighted(world.folder / "again", [of_both, second], [1, 1], cache=world.folder / "cache")
    assert json.loads((again / "whetstone.json").read_text())["made_of"][0]["made_of"] == card["made_of"]

    small = write_weighted(world.folder / "s", [first, second], [0.75, -0.5], cache=world.folder / "cache", rank=2)
    cut = _delta(world, world.registry.add(small).id)
    for name, change in states[2].items():
        if change.dim() < 2:
            continue
        left = torch.linalg.svdvals(change.double())[2:].square().sum().sqrt()
        rounding = 0.004 * float(torch.linalg.matrix_norm(change.double()))  # bfloat16 has eight bits
        assert torch.linalg.matrix_norm((cut[name] - change).double()) == pytest.approx(
            float(left), abs=1e-4 + rounding
        )


def _delta(world: World, id: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    out = world.folder / f"merged-{id}"
    write_merged(out, world.base, world.registry.find(id), cache=world.folder / "cache")
    before, after = load_file(world.model / "model.safetensors"), load_file(out / "model.safetensors")
    return {name: after[name] - weight for name, weight in before.items()}


def test_a_merged_model_says_what_the_adapter_said(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    out = world.folder / "whole"
    write_merged(out, world.base, entry, cache=world.folder / "cache")
    with_adapter = logits(load_chosen(world.settings(entry.id)))
    alone = logits(load_model(str(out), dtype="fp32", cache=world.folder / "cache"))
    assert torch.allclose(with_adapter, alone, atol=1e-5)
