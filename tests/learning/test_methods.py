"""Every method is itself: what it saves is of its own kind, learned something, and does the same in peft's hands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agent.engine.finding import SIZES
from agent.engine.models import load_model
from agent.engine.network import Row
from agent.learning.examples import Example
from agent.learning.learner import Base, open_learner
from agent.learning.methods import peft_config
from agent.learning.objectives import mean_loss
from agent.learning.recipe import METHODS, Recipe
from agent.learning.trainer import train
from agent.learning.training import Progress
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import random_examples
from tests.models import build_model

RATES = {"prefix": 5e-2, "prompt": 5e-2, "ia3": 5e-2, "full": 3e-3, "adalora": 2e-2}
SIGNS = {
    "lora": "lora_A", "rslora": "lora_A", "dora": "lora_magnitude_vector", "adalora": "lora_E",
    "prefix": "prompt_embeddings", "prompt": "prompt_embeddings", "ia3": "ia3_l", "full": "embed_tokens",
}  # fmt: skip


def _base(tmp_path: Path, family: str = "llama") -> Base:
    return Base.of(load_model(str(build_model(tmp_path / "model", family)), dtype="fp32", cache=tmp_path / "cache"))


def _recipe(method: str, **more: object) -> Recipe:
    chosen = {
        "method": method, "rank": 4, "alpha": 8.0, "learning_rate": RATES.get(method, 1e-2), "epochs": 12.0,
        "batch_tokens": 200, "dtype": "fp32", "threads": 1, "patience": 0,
    }  # fmt: skip
    return Recipe(**{**chosen, **more})  # pyright: ignore


def _loss_in_peft(base: Base, folder: Path, method: str, examples: list[Example]) -> float:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder if method == "full" else base.folder, dtype=torch.float32)
    if method != "full":
        model = PeftModel.from_pretrained(model, str(folder))
    return _mean_loss(lambda ids: model(input_ids=torch.tensor([ids])).logits[0][-len(ids) :], examples)


def _loss_in_the_runtime(base: Base, folder: Path, method: str, examples: list[Example]) -> float:
    model, adapter = (folder, None) if method == "full" else (base.folder, folder)
    network = load_model(str(model), adapter=adapter, dtype="fp32", cache=folder.parent / "cache").model
    return _mean_loss(lambda ids: network.forward([Row(network.new_cache(), ids, wanted=len(ids))]), examples)


def _mean_loss(logits_of: Callable[[Sequence[int]], torch.Tensor], examples: list[Example]) -> float:
    total, count = 0.0, 0
    for example in examples:
        with torch.inference_mode():
            logs = logits_of(example.ids).log_softmax(-1)
        chosen = [-float(logs[i - 1, id]) for i, id in enumerate(example.ids) if example.loss[i]]
        total, count = total + sum(chosen), count + len(chosen)
    return total / count


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_and_is_of_its_own_kind(tmp_path: Path, method: str) -> None:
    base, examples, recipe = _base(tmp_path), random_examples(6), _recipe(method)
    with torch.no_grad():
        before = mean_loss(open_learner(base, recipe, steps=10), examples, 200)
    trained = train(base, examples, recipe, tmp_path / "out", holdout=examples)
    assert trained.best is not None
    assert trained.best < before - 0.05
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    saved = load_file(tmp_path / "out" / file)
    assert any(SIGNS[method] in name for name in saved)
    if method in ("lora", "rslora"):
        assert all("lora_A" in name or "lora_B" in name for name in saved)
    for loss in (_loss_in_peft, _loss_in_the_runtime):
        assert loss(base, tmp_path / "out", method, examples) == pytest.approx(trained.best, rel=0.02)


def test_rslora_scales_by_the_root_of_the_rank(tmp_path: Path) -> None:
    base, examples = _base(tmp_path), random_examples(6)
    plain = train(base, examples, _recipe("lora"), tmp_path / "lora")
    scaled = train(base, examples, _recipe("rslora"), tmp_path / "rslora")
    assert json.loads((scaled.folder / "adapter_config.json").read_text())["use_rslora"] is True
    assert scaled.points[0].loss == plain.points[0].loss  # B is zero
    assert scaled.points[5].loss != plain.points[5].loss
    # alpha / sqrt(r) = alpha' / r for alpha' = alpha * sqrt(r)
    same = train(base, examples, _recipe("lora", alpha=8.0 * 4**0.5), tmp_path / "same")
    assert [p.loss for p in same.points] == pytest.approx([p.loss for p in scaled.points], rel=1e-4)


def test_adalora_takes_ranks_away_where_they_matter_least(tmp_path: Path) -> None:
    base = _base(tmp_path)
    trained = train(base, random_examples(6), _recipe("adalora", epochs=20.0), tmp_path / "out")
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    kept = [sum(flags) for flags in config["rank_pattern"].values()]
    assert sum(kept) == 4 * len(kept)  # the budget: rank 4 on average, from 6 at first
    assert len(set(kept)) > 1  # some lost more than others
    ranks = {
        tuple(t.shape) for n, t in load_file(trained.folder / "adapter_model.safetensors").items() if "lora_E" in n
    }
    assert len(ranks) > 1


def test_dora_changes_the_magnitude_of_each_row(tmp_path: Path) -> None:
    base = _base(tmp_path)
    trained = train(base, random_examples(6), _recipe("dora"), tmp_path / "out")
    saved = load_file(trained.folder / "adapter_model.safetensors")
    weights = load_file(base.folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    magnitude = saved[f"base_model.model.{name}.lora_magnitude_vector"].float()
    assert (magnitude - weights[f"{name}.weight"].norm(dim=1)).abs().max() > 0.02


def test_full_training_gives_a_model_that_runs_without_its_base(tmp_path: Path) -> None:
    base = _base(tmp_path)
    trained = train(base, random_examples(6), _recipe("full"), tmp_path / "out")
    assert not (trained.folder / "adapter_model.safetensors").exists()
    loaded = load_model(str(trained.folder), dtype="fp32", cache=tmp_path / "cache")
    assert loaded.lineage.base_digest != base.lineage.base_digest
    assert loaded.lineage.tokenizer_digest == base.lineage.tokenizer_digest


@pytest.mark.parametrize("method", ["dora", "adalora", "ia3"])
def test_the_runtime_loads_what_can_be_merged(tmp_path: Path, method: str) -> None:
    base = _base(tmp_path)
    trained = train(base, random_examples(6), _recipe(method, epochs=3.0), tmp_path / "out")
    assert load_model(base.spec, adapter=trained.folder, dtype="fp32", cache=tmp_path / "cache").adapter is not None


def test_no_method_changes_the_vocabulary(tmp_path: Path) -> None:
    base = _base(tmp_path)
    size = base.config()["vocab_size"]
    for method in METHODS:
        learner = open_learner(base, _recipe(method), steps=10)
        assert len(learner.head) == size
        embeddings = [p for n, p in learner.parameters.items() if "embed_tokens" in n or "lm_head" in n]
        assert all(len(p) == size for p in embeddings)


def test_peft_on_the_packed_path_and_on_its_own_give_the_same_lora(tmp_path: Path) -> None:
    """The slow path for other models computes the same objective: same parameters, same loss and gradients."""
    from agent.learning.objectives import likelihood_loss
    from agent.learning.packing import pack
    from agent.learning.peft_learner import PeftLearner

    base, recipe, examples = _base(tmp_path), _recipe("lora"), random_examples(4)
    packed, slow = open_learner(base, recipe, steps=1), PeftLearner(base, recipe, 1)
    other = {name.replace(".default.weight", ".weight"): p for name, p in slow.parameters.items()}
    assert other.keys() == packed.parameters.keys()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in packed.parameters.items():
            parameter.normal_(0, 0.1)
            other[name].copy_(parameter)
    packed.refresh()
    losses = []
    for learner, share in ((packed, True), (slow, False)):
        whole = pack(examples, share=share)
        loss = likelihood_loss(learner, whole, learner.hidden(whole))
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, parameter in packed.parameters.items():
        assert torch.allclose(parameter.grad, other[name].grad, rtol=1e-3, atol=1e-3), name  # pyright: ignore


@pytest.mark.parametrize(("method", "choice"), [("ia3", {"layers": 1}), ("prefix", {"targets": ("q_proj",)})])
def test_a_choice_that_a_method_has_not_is_refused(method: str, choice: dict[str, Any]) -> None:
    with pytest.raises(WhetstoneError, match="leave out --"):
        _recipe(method, **choice)


def test_a_method_that_does_not_fit_the_model_says_so(tmp_path: Path) -> None:
    base = _base(tmp_path)
    with pytest.raises(WhetstoneError, match="--targets"):
        train(base, random_examples(4), _recipe("dora", targets=("no_such_layer",)), tmp_path / "out")
    assert peft_config(_recipe("full"), layers=3, steps=1) is None


class _Stop(Exception):
    pass


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path, method: str) -> None:
    base, examples = _base(tmp_path), random_examples(6)
    recipe = _recipe(method, epochs=6.0)
    whole = train(base, examples, recipe, tmp_path / "whole")

    def cut(progress: Progress) -> None:
        if progress.point.step == len(whole.points) // 2:
            raise _Stop

    with pytest.raises(_Stop):
        train(base, examples, recipe, tmp_path / "cut", watch=cut, checkpoint_seconds=0)
    again = train(base, examples, recipe, tmp_path / "cut", resume=True)
    assert [point.loss for point in again.points] == [point.loss for point in whole.points]
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    expected, found = load_file(whole.folder / file), load_file(again.folder / file)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_a_family_with_names_of_its_own_learns_too(tmp_path: Path, method: str) -> None:
    model = build_model(tmp_path / "gpt2", "gpt2", n_embd=48, n_layer=2, n_head=4, n_positions=512)
    config = {
        k: v for k, v in json.loads((model / "config.json").read_text()).items() if k not in SIZES or k == "vocab_size"
    }
    (model / "config.json").write_text(json.dumps(config))
    base = Base.of(load_model(str(model), dtype="fp32", cache=tmp_path / "cache"))
    assert base.sizes()["hidden_size"] == 48
    examples = random_examples(4)
    trained = train(base, examples, _recipe(method), tmp_path / "out")
    assert trained.points[-1].loss < trained.points[0].loss - 0.05
    said = _loss_in_the_runtime(base, tmp_path / "out", method, examples)
    assert said == pytest.approx(_loss_in_peft(base, tmp_path / "out", method, examples), abs=1e-3)


def test_a_model_that_does_not_tell_its_sizes_is_refused(tmp_path: Path) -> None:
    base = _base(tmp_path)
    config = json.loads((base.folder / "config.json").read_text())
    (base.folder / "config.json").write_text(json.dumps({"model_type": "mamba", "vocab_size": config["vocab_size"]}))
    with pytest.raises(WhetstoneError, match="a mamba does not tell its num_attention_heads"):
        train(base, random_examples(2), _recipe("lora"), tmp_path / "out")
