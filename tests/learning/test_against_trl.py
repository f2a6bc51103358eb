"""Our preference losses are those of TRL: the same pairs, the same adapter, the same number and the same gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agent.engine.models import load_model
from agent.learning.examples import Example
from agent.learning.learner import Base, open_learner
from agent.learning.objectives import preference_loss
from agent.learning.packing import pack
from agent.learning.recipe import Recipe
from tests.learning.sessions_as_tokens import pairs_of_examples
from tests.models import build_adapter, build_model


@pytest.mark.parametrize("objective", ["dpo", "spin"])
def test_a_preference_loss_and_its_gradient_are_those_of_trl(tmp_path: Path, objective: str) -> None:
    import trl
    from datasets import Dataset
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = build_model(tmp_path / "model")
    adapter = build_adapter(tmp_path / "adapter", folder, target_modules="all-linear")
    anchor = 0.7 if objective == "dpo" else 0.0
    recipe = Recipe(
        objective=objective, rank=4, alpha=8.0, preference=0.3, anchor=anchor, dtype="fp32", threads=1,
    )  # fmt: skip
    base = Base.of(load_model(str(folder), dtype="fp32", cache=tmp_path / "cache"))
    learner = open_learner(base, recipe, steps=1)
    with torch.no_grad():
        for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
            learner.parameters[name].copy_(tensor)
    learner.refresh()
    pair = [some[0] for some in pairs_of_examples(1)]
    ours = preference_loss(learner, pack(pair), recipe)
    ours.backward()

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(adapter), is_trainable=True)
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"), beta=0.3, loss_type=["sigmoid", "sft"], loss_weights=[1.0, anchor],
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_dropout=True,
    )  # fmt: skip
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = trl.DPOTrainer(
        model, ref_model=AutoModelForCausalLM.from_pretrained(folder), args=arguments,
        train_dataset=Dataset.from_list([row]), processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    theirs = trainer.compute_loss(trainer.model, _padded(pair))
    theirs.backward()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    compared = 0
    for name, parameter in learner.parameters.items():
        expected = gradients[name.replace(".weight", ".default.weight")]
        assert expected is not None
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
        compared += bool(expected.abs().max() > 1e-4)
    assert compared > 5


def _padded(examples: list[Example]) -> dict[str, torch.Tensor]:
    """As TRL's collator gives them: first the chosen, then the rejected."""
    longest = max(len(each.ids) for each in examples)
    rows = [(each.ids, each.loss, longest - len(each.ids)) for each in examples]
    return {
        "input_ids": torch.tensor([[*ids, *[0] * rest] for ids, _, rest in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * rest for ids, _, rest in rows]),
        "completion_mask": torch.tensor([[*map(int, loss), *[0] * rest] for _, loss, rest in rows]),
    }
