"""The discriminator tells sessions apart that differ, and nothing from noise."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.engine.models import load_model
from agent.learning.discriminator import read_discriminator, train_discriminator, weighed
from agent.learning.examples import Example
from agent.learning.learner import Base
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import random_examples
from tests.models import build_model

RECIPE = Recipe(dtype="fp32", threads=1)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base.of(load_model(str(build_model(tmp_path / "model")), dtype="fp32", cache=tmp_path / "cache"))


def _failing(examples: list[Example]) -> list[Example]:
    """Four in ten of the own tokens is a complaint that verified sessions do not have."""
    choice = random.Random(1)
    found: list[Example] = []
    for example in examples:
        own = [7 if choice.random() < 0.4 else id for id in example.ids[example.shared :]]
        found.append(replace(example, ids=(*example.ids[: example.shared], *own)))
    return found


def test_it_tells_failed_sessions_from_verified_ones_on_goals_it_has_not_seen(base: Base, tmp_path: Path) -> None:
    verified, failed = random_examples(80), _failing(random_examples(80))
    report = train_discriminator(base, verified, failed, tmp_path / "out", RECIPE)
    assert report.f1 > 0.85
    assert min(report.precision, report.recall) > 0.75
    assert (report.trained_on, report.measured_on) == (128, 32)
    assert json.loads((tmp_path / "out" / "discriminator.json").read_text())["report"]["f1"] == report.f1
    scores = read_discriminator(tmp_path / "out", base).score([*verified, *failed], RECIPE)
    assert sum(scores[:80]) > 2 * sum(scores[80:])


def test_it_finds_nothing_where_there_is_nothing(base: Base, tmp_path: Path) -> None:
    examples = random_examples(160)
    report = train_discriminator(base, examples[::2], examples[1::2], tmp_path / "out", RECIPE)
    assert report.accuracy < 0.75


def test_weights_follow_the_scores_and_keep_the_mean() -> None:
    found = weighed(random_examples(3), [0.9, 0.6, 0.0])
    assert [example.weight for example in found] == pytest.approx([1.8, 1.2, 0.0])


def test_too_few_sessions_and_another_base_are_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(WhetstoneError, match="sample more"):
        train_discriminator(base, random_examples(80), random_examples(3), tmp_path / "out", RECIPE)
    train_discriminator(base, random_examples(40), _failing(random_examples(40)), tmp_path / "out", RECIPE)
    other = replace(base, lineage=replace(base.lineage, base_digest="0" * 64))
    with pytest.raises(WhetstoneError, match="another base"):
        read_discriminator(tmp_path / "out", other)
