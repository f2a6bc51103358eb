"""A session can be taken out of what was learned from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.engine.models import load_model
from agent.learning.adapters import Registry
from agent.learning.combining import write_ensemble
from agent.learning.dataset import build_dataset, read_examples
from agent.learning.learner import Base
from agent.learning.purging import purge, trained_on
from agent.learning.recipe import Recipe
from agent.learning.sequences import SessionEncoder
from agent.learning.trainer import train
from agent.types import WhetstoneError
from tests.learning.test_dataset import session_of
from tests.models import build_model
from tests.sessions import finish

RECIPE = Recipe(rank=4, alpha=8, epochs=1, dtype="fp32", threads=1)


def test_a_purged_session_leaves_nothing_in_use_and_the_rest_is_trained_again(tmp_path: Path) -> None:
    base = load_model(str(build_model(tmp_path / "tiny")), dtype="fp32", cache=tmp_path / "cache")
    encoder = SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary)
    sessions = [session_of(tmp_path, finish(word), goal=f"Say {word}.") for word in ("one", "two", "three")]
    registry = Registry(tmp_path / "adapters")

    def trained(name: str, count: int) -> str:
        build_dataset(sessions[:count], tmp_path / f"{name}-set", encoder)
        done = train(Base.of(base), read_examples(tmp_path / f"{name}-set"), RECIPE, tmp_path / name)
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
    assert trained_on(registry, out.id) == []
    with pytest.raises(WhetstoneError, match="no adapter was trained on session"):
        purge(registry, out.id)
