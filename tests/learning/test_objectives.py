"""Every objective does what it says, and not what plain fine-tuning does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agent.engine.models import load_model
from agent.learning.examples import Example
from agent.learning.learner import Base, Learner, open_learner
from agent.learning.likelihood import log_likelihood
from agent.learning.objectives import accumulate, likelihood_loss, mean_loss, worst_step
from agent.learning.packing import pack
from agent.learning.raw_text import read_text
from agent.learning.recipe import Recipe
from agent.learning.schedule import Source, Turn, pairs
from agent.learning.trainer import Trained, train
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import pairs_of_examples, random_examples
from tests.models import build_model


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base.of(load_model(str(build_model(tmp_path / "model")), dtype="fp32", cache=tmp_path / "cache"))


def _recipe(**more: object) -> Recipe:
    chosen = {
        "rank": 4, "alpha": 8.0, "learning_rate": 1e-2, "epochs": 15.0, "batch_tokens": 200, "dtype": "fp32",
        "threads": 1, "patience": 0,
    }  # fmt: skip
    return Recipe(**{**chosen, **more})  # pyright: ignore


def _learned(base: Base, trained: Trained, recipe: Recipe) -> Learner:
    """The trained adapter, opened again."""
    from safetensors.torch import load_file

    learner = open_learner(base, recipe, steps=1)
    with torch.no_grad():
        for name, tensor in load_file(trained.folder / "adapter_model.safetensors").items():
            learner.parameters[name].copy_(tensor)
    learner.refresh()
    return learner


def _loss(learner: Learner, examples: list[Example]) -> float:
    with torch.no_grad():
        return mean_loss(learner, examples, 1000)


def _distance(learner: Learner, examples: list[Example]) -> float:
    """KL(base || model) by its definition."""
    with torch.no_grad():
        whole = pack(examples)
        base = (learner.hidden(whole, adapted=False) @ learner.head.T).log_softmax(-1)
        ours = (learner.hidden(whole) @ learner.head.T).log_softmax(-1)
        return float((base.exp() * (base - ours)).sum(-1).mean())


def test_replay_keeps_the_other_family_and_kl_keeps_the_base(base: Base, tmp_path: Path) -> None:
    task, other = random_examples(6), random_examples(6, seed=7)
    learned = {}
    for name, replay, recipe in (
        ("plain", [], _recipe()),
        ("replay", other, _recipe()),
        ("kl", other, _recipe(replay_weight=0.0, kl_weight=3.0)),
    ):
        trained = train(base, task, recipe, tmp_path / name, replay=replay)
        learned[name] = _learned(base, trained, recipe)
        assert (trained.points[-1].divergence is not None) == (name == "kl")
        if name == "kl":
            assert trained.points[-1].divergence == pytest.approx(_distance(learned[name], other), rel=0.5)
    assert _loss(learned["replay"], other) < _loss(learned["plain"], other) - 0.3
    assert _distance(learned["kl"], other) < 0.3 * _distance(learned["plain"], other)
    assert all(
        _loss(learner, task) < _loss(open_learner(base, _recipe(), steps=1), task) for learner in learned.values()
    )


def test_adaptive_learns_the_raw_text_too(base: Base, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("The mill grinds slowly, and the miller counts the sacks by the river in the rain. " * 6)
    tokenizer = load_model(base.spec, dtype="fp32", cache=tmp_path / "cache").tokenizer
    text, task = read_text([file], tokenizer), random_examples(6)
    recipe = _recipe(objective="adaptive", replay_weight=0.5)
    adaptive = _learned(base, train(base, task, recipe, tmp_path / "a", replay=text), recipe)
    plain = _learned(base, train(base, task, _recipe(), tmp_path / "b"), _recipe())
    assert _loss(adaptive, text) < _loss(plain, text) - 1
    for replayed in ([], random_examples(4, seed=1)):  # sessions alone would make it plain sft
        with pytest.raises(WhetstoneError, match="--text"):
            train(base, task, recipe, tmp_path / "c", replay=replayed)


def test_the_adversarial_gradient_is_that_of_both_losses(base: Base) -> None:
    """Against autograd on the embeddings, with the steps taken one after the other by hand."""
    recipe, examples = _recipe(objective="adversarial", epsilon=0.5), random_examples(3)
    learner = open_learner(base, recipe, steps=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in learner.parameters.values():
            parameter.normal_(0, 0.1)
    learner.refresh()
    accumulate(learner, (Turn(Source("task", examples), [examples]),), recipe)
    found = [p.grad.clone() for p in learner.parameters.values() if p.grad is not None]
    whole = pack(examples, share=False)
    count = float(whole.weights.sum())
    step = torch.zeros(whole.tokens, 48, requires_grad=True)
    clean = likelihood_loss(learner, whole, learner.hidden(whole, perturbation=step)) / count
    (slope,) = torch.autograd.grad(clean, step)
    length = 0.5 * float(learner.embedding[whole.ids].norm(dim=-1).mean())
    worst = worst_step(slope, whole, length)
    for segment in whole.segments:
        assert worst[segment.start : segment.start + segment.count].norm() == pytest.approx(length, rel=1e-4)
    clean = likelihood_loss(learner, whole, learner.hidden(whole)) / count
    attacked = likelihood_loss(learner, whole, learner.hidden(whole, perturbation=worst)) / count
    assert attacked > clean + 0.01
    expected = torch.autograd.grad((clean + attacked) / 2, list(learner.parameters.values()))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_adversarial_training_withstands_the_attack_better(base: Base, tmp_path: Path) -> None:
    examples = random_examples(6)

    def attacked(learner: Learner) -> float:
        whole = pack(examples, share=False)
        step = torch.zeros(whole.tokens, 48, requires_grad=True)
        likelihood_loss(learner, whole, learner.hidden(whole, perturbation=step)).backward()
        assert step.grad is not None
        length = 0.7 * float(learner.embedding[whole.ids].norm(dim=-1).mean())
        with torch.no_grad():
            hidden = learner.hidden(whole, perturbation=worst_step(step.grad, whole, length))
            return float(likelihood_loss(learner, whole, hidden) / whole.weights.sum())

    losses = {}
    for objective in ("sft", "adversarial"):
        recipe = _recipe(objective=objective, epsilon=0.7, epochs=25.0)
        learner = _learned(base, train(base, examples, recipe, tmp_path / objective), recipe)
        losses[objective] = attacked(learner)
    assert losses["adversarial"] < 0.95 * losses["sft"]


def _log_likelihoods(learner: Learner, examples: list[Example]) -> list[float]:
    with torch.no_grad():
        whole = pack(examples)
        logs = log_likelihood(learner.hidden(whole), learner.head, whole.labels)
        return [float(logs[whole.owner == number].sum()) for number in range(len(examples))]


@pytest.mark.parametrize("objective", ["dpo", "spin"])
def test_preference_pushes_the_chosen_and_the_rejected_apart(base: Base, tmp_path: Path, objective: str) -> None:
    chosen, rejected = pairs_of_examples(6)
    recipe = _recipe(objective=objective, anchor=0.5, preference=0.1)
    trained = train(base, chosen, recipe, tmp_path / "out", rejected=rejected)
    before = open_learner(base, recipe, steps=1)
    after = _learned(base, trained, recipe)
    gains = [
        [b - a for a, b in zip(_log_likelihoods(before, some), _log_likelihoods(after, some), strict=True)]
        for some in (chosen, rejected)
    ]
    assert all(gain > 5 for gain in map(lambda a, b: a - b, *gains))
    plain = _learned(base, train(base, chosen, _recipe(), tmp_path / "plain"), recipe)
    for ours, theirs in zip(_log_likelihoods(after, rejected), _log_likelihoods(plain, rejected), strict=True):
        assert ours < theirs - 3
    # Before the first step nothing is preferred: the loss is log 2, for dpo with the anchor beside it.
    first = trained.points[0].loss
    if objective == "spin":
        assert first == pytest.approx(math.log(2), rel=1e-5)
    else:
        assert first > math.log(2) + 0.5 * 4  # an untrained model's -log p of a random token is above 4


def test_dpo_is_anchored(base: Base, tmp_path: Path) -> None:
    chosen, rejected = pairs_of_examples(6)
    likelihoods = {}
    for anchor in (0.0, 2.0):
        recipe = _recipe(objective="dpo", anchor=anchor)
        learner = _learned(base, train(base, chosen, recipe, tmp_path / str(anchor), rejected=rejected), recipe)
        likelihoods[anchor] = sum(_log_likelihoods(learner, chosen))
    assert likelihoods[2.0] > likelihoods[0.0] + 10


def test_preference_needs_pairs_of_one_prompt(base: Base, tmp_path: Path) -> None:
    examples = random_examples(4)
    with pytest.raises(WhetstoneError, match="--rejected"):
        train(base, examples, _recipe(objective="dpo"), tmp_path / "out")
    others = [replace(e, ids=(*e.ids[:3], e.ids[3] + 1, *e.ids[4:])) for e in examples]
    with pytest.raises(WhetstoneError, match="sample several"):
        pairs(examples, others)


@pytest.mark.parametrize("objective", ["dpo", "adversarial"])
def test_a_kl_term_that_would_not_be_there_is_refused(base: Base, tmp_path: Path, objective: str) -> None:
    examples, others = pairs_of_examples(4)
    with pytest.raises(WhetstoneError, match="KL term on replayed sessions only"):
        train(base, examples, _recipe(objective=objective, kl_weight=1.0), tmp_path / "out", rejected=others)


def test_pairs_are_not_measured_by_the_loss_of_single_sessions(base: Base, tmp_path: Path) -> None:
    examples, others = pairs_of_examples(6)
    done = train(base, examples, _recipe(objective="spin"), tmp_path / "out", rejected=others, holdout=examples)
    assert done.best is None
    assert all(point.heldout is None for point in done.points)


def test_sessions_count_by_their_weight(base: Base) -> None:
    recipe, examples = _recipe(), random_examples(2, own=(30, 30))
    grads = []
    for weights in ((1.0, 0.0), (1.0,)):
        some = [
            Example(e.ids, e.loss, e.session, "", e.goal, shared=e.shared, weight=w)
            for e, w in zip(examples, weights, strict=False)
        ]
        learner = open_learner(base, recipe, steps=1)
        accumulate(learner, (Turn(Source("task", some), [some]),), recipe)
        grads.append(torch.cat([p.grad.flatten() for p in learner.parameters.values() if p.grad is not None]))
    assert torch.allclose(grads[0], grads[1], atol=1e-6)
