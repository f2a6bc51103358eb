"""The fast path computes what peft over transformers computes, one session at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agent.learning.likelihood import divergence, log_likelihood
from agent.learning.packed_llama import LINEAR, PackedLlama
from agent.learning.packing import pack
from tests.learning.sessions_as_tokens import random_examples
from tests.models import build_model


def _packed(folder: Path, **options: object) -> PackedLlama:
    config = json.loads((folder / "config.json").read_text())
    return PackedLlama(config, load_file(folder / "model.safetensors"), rank=4, scale=2.0, **options)  # pyright: ignore


def _randomized(model: PackedLlama) -> PackedLlama:
    """B is zero at first, which would hide errors in the gradient of A."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters.values():
            parameter.normal_(0, 0.1)
    model.refresh()
    return model


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(
    ("share", "options"),
    [(True, {}), (False, {}), (True, {"checkpointing": True}), (True, {"keep_weights": True})],
)
def test_a_pack_has_the_loss_and_gradients_of_peft_one_session_at_a_time(
    tmp_path: Path, family: str, share: bool, options: dict[str, bool]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = build_model(tmp_path / "model", family)
    ours = _randomized(_packed(folder, **options))
    examples = random_examples(5, own=(100, 300))  # longer than a block of attention
    packed = pack(examples, share=share)
    logs = log_likelihood(ours.hidden(packed), ours.head, packed.labels)
    (-logs.sum()).backward()

    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR), task_type="CAUSAL_LM")
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    parameters = {n.replace(".default.weight", ".weight"): p for n, p in theirs.named_parameters() if "lora_" in n}
    assert parameters.keys() == ours.parameters.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(ours.parameters[name])
    total = torch.zeros(())
    for example in examples:
        logits = theirs(torch.tensor([example.ids])).logits[0].log_softmax(-1)
        for place, learns in enumerate(example.loss):
            if learns:
                total = total - logits[place - 1, example.ids[place]]
    total.backward()

    assert -logs.sum().item() == pytest.approx(total.item(), rel=1e-5)
    for name, parameter in parameters.items():
        mine, grad = ours.parameters[name].grad, parameter.grad
        assert mine is not None
        assert grad is not None
        assert torch.allclose(mine, grad, rtol=1e-3, atol=1e-4 * grad.abs().max().item()), name


def test_a_shared_beginning_is_computed_once() -> None:
    examples = random_examples(6, shared=50)
    apart, together = pack(examples, share=False), pack(examples)
    assert apart.tokens - together.tokens == 5 * 50
    assert torch.equal(apart.labels, together.labels)


def test_without_the_adapter_it_is_the_base(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = build_model(tmp_path / "model")
    ours = _randomized(_packed(folder))
    packed = pack(random_examples(3))
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = []
    for example in packed.examples:
        logits = base(torch.tensor([example.ids])).logits[0].log_softmax(-1)
        expected += [
            logits[i - 1, id] for i, (id, learns) in enumerate(zip(example.ids, example.loss, strict=True)) if learns
        ]
    with torch.no_grad():
        found = log_likelihood(ours.hidden(packed, adapted=False), ours.head, packed.labels)
        adapted = log_likelihood(ours.hidden(packed), ours.head, packed.labels)
    assert torch.allclose(found, torch.stack(expected), atol=1e-4)
    assert not torch.allclose(adapted, found, atol=1e-2)


def test_bfloat16_stays_close_to_float32(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model")
    packed = pack(random_examples(4, own=(60, 200)))
    grads = []
    for dtype in (torch.float32, torch.bfloat16):
        model = _randomized(_packed(folder, dtype=dtype))
        (-log_likelihood(model.hidden(packed), model.head, packed.labels).mean()).backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters.values() if p.grad is not None]))
    cosine = torch.nn.functional.cosine_similarity(grads[0], grads[1], dim=0)
    assert cosine > 0.99


def test_divergence_and_its_gradient_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    head = torch.randn(300, 16)
    hidden, reference = torch.randn(7, 16, requires_grad=True), torch.randn(7, 16)
    found = divergence(hidden, reference, head)
    (found * torch.arange(7)).sum().backward()
    mine = hidden.grad
    again = hidden.detach().requires_grad_()
    base = (reference @ head.T).softmax(-1)
    expected = (base * (base.log() - (again @ head.T).log_softmax(-1))).sum(-1)
    (expected * torch.arange(7)).sum().backward()
    assert torch.allclose(found, expected, atol=1e-5)
    assert mine is not None
    assert again.grad is not None
    assert torch.allclose(mine, again.grad, atol=1e-4)
