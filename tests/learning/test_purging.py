"""A session can be taken out of what was learned from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.engine.models import load_model
from agent.learning import adapters
from agent.learning.adapters import Registry
from agent.learning.combining import write_ensemble
from agent.learning.dataset import build_dataset, read_examples
from agent.learning.filters import Filters
from agent.learning.learner import Base
from agent.learning.purging import purge, trained_on
from agent.learning.recipe import Recipe
from agent.learning.sequences import SessionEncoder
from agent.learning.trainer import train
from agent.policies.local import load_chosen
from agent.types import WhetstoneError
from tests.learning.test_adapters import World
from tests.learning.test_dataset import session_of
from tests.models import build_model
from tests.sessions import act, finish

RECIPE = Recipe(rank=4, alpha=8, epochs=1, dtype="fp32", threads=1)


def test_a_purged_session_leaves_nothing_in_use_and_the_rest_is_trained_again(tmp_path: Path) -> None:
    base = load_model(str(build_model(tmp_path / "tiny")), dtype="fp32", cache=tmp_path / "cache")
    encoder = SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary)
    sessions = [
        session_of(tmp_path, act("list_files"), finish(word), goal=f"Say {word}.") for word in ("one", "two", "three")
    ]
    registry = Registry(tmp_path / "adapters")

    def trained(name: str, count: int) -> str:
        data = tmp_path / f"{name}-set"
        planted = build_dataset(sessions[:count], data, encoder, plant_secret=True)["planted"]
        done = train(Base.of(base), read_examples(data), RECIPE, tmp_path / name, planted=planted)
        return registry.add(done.folder).id

    clean, dirty = trained("clean", 1), trained("dirty", 3)
    both = registry.add(write_ensemble(tmp_path / "e", [registry.find(clean), registry.find(dirty)])).id
    for id in (clean, dirty):
        registry.promote(id, without_gate=True)
    out = sessions[2]
    assert {entry.id for entry in trained_on(registry, out.id)} == {dirty, both}

    with pytest.raises(WhetstoneError, match=r"2 of the sessions it learned from are not there"):
        purge(registry, out.id, base=base, out=tmp_path / "again")
    assert registry.find(dirty).state == "promoted"

    done = {each.id: each for each in purge(registry, out.id, base=base, sources=sessions, out=tmp_path / "again")}
    assert set(done) == {dirty, both}
    assert done[dirty].was_in_use
    current = registry.promoted(base.lineage)
    assert current is not None
    assert current.id == clean
    rebuilt = registry.find(done[dirty].rebuilt)
    assert rebuilt.state == "candidate"
    assert rebuilt.sessions == {sessions[0].id, sessions[1].id}
    assert rebuilt.card["rebuilt_from"] == dirty
    assert rebuilt.card["planted"]["session"] in rebuilt.sessions, "the gate has something to look for again"
    assert trained_on(registry, out.id) == []
    with pytest.raises(WhetstoneError, match="no adapter was trained on session"):
        purge(registry, out.id)


def test_a_purge_leaves_no_copy_of_the_adapter_on_the_disk(tmp_path: Path) -> None:
    world = World(tmp_path)
    entry = world.registry.add(world.trained(1))
    settings = world.settings(entry.id)
    load_chosen(settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": "int8"})}))
    (tmp_path / "cache" / "prefixes").mkdir()
    (tmp_path / "cache" / "prefixes" / "turn.kv").write_bytes(b"keys and values")
    assert list((tmp_path / "cache" / "rounded").iterdir())
    purge(world.registry, "s1", cache=tmp_path / "cache")
    assert [list((tmp_path / "cache" / name).iterdir()) for name in ("rounded", "prefixes")] == [[], []]


def test_what_a_removal_cut_short_left_is_deleted_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    first, second = (world.registry.add(world.trained(seed)) for seed in (1, 2))

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    for place, function in ((adapters.shutil, "rmtree"), (Path, "rename")):
        world.registry.add(world.folder / "trained-1")
        with monkeypatch.context() as patched:
            patched.setattr(place, function, cut_short)
            with pytest.raises(KeyboardInterrupt):
                purge(world.registry, "s1")
        assert {path.name.strip(".")[:12] for path in world.registry.folder.iterdir() if path.is_dir()} > {second.id}
        with pytest.raises(WhetstoneError, match="no adapter was trained on session s1"):
            purge(world.registry, "s1")
        assert [path.name for path in world.registry.folder.iterdir() if path.is_dir()] == [second.id]
    again = world.registry.add(world.folder / "trained-1")
    assert again.id == first.id
    world.registry.remove(second.id)
    assert world.says(again.id)


def test_what_was_learned_from_pairs_is_trained_again_from_the_pairs_that_are_left(tmp_path: Path) -> None:
    base = load_model(str(build_model(tmp_path / "tiny")), dtype="fp32", cache=tmp_path / "cache")
    encoder = SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary)
    words = ("one", "two")
    good = [session_of(tmp_path / "good", finish(word), goal=f"Say {word}.") for word in words]
    bad = [session_of(tmp_path / "bad", finish("a wrong word"), goal=f"Say {word}.") for word in words]
    build_dataset(good, tmp_path / "good-set", encoder)
    failed = Filters(include=("verified", "unverified", "failed"), near_duplicate=2.0)
    build_dataset(bad, tmp_path / "bad-set", encoder, filters=failed)
    chosen, rejected = (read_examples(tmp_path / name) for name in ("good-set", "bad-set"))
    recipe = replace(RECIPE, objective="dpo")
    registry = Registry(tmp_path / "adapters")
    trained = train(Base.of(base), chosen, recipe, tmp_path / "dpo", rejected=rejected).folder
    entry = registry.add(trained)
    assert entry.sessions == {session.id for session in (*good, *bad)}

    (done,) = purge(registry, bad[0].id, base=base, sources=[*good, *bad], out=tmp_path / "again")
    rebuilt = registry.find(done.rebuilt)
    assert rebuilt.card["recipe"]["objective"] == "dpo"
    assert bad[0].id not in rebuilt.sessions
    assert rebuilt.sessions >= {good[1].id, bad[1].id}

    card = trained / "whetstone.json"
    card.write_text(card.read_text().replace('"objective": "dpo"', '"objective": "adaptive"'))
    registry.remove(rebuilt.id)
    registry.add(trained)
    with pytest.raises(WhetstoneError, match="learned from raw text too"):
        purge(registry, bad[0].id, base=base, sources=[*good, *bad], out=tmp_path / "third")
