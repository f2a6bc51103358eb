"""Any method on any model of transformers, one session at a time, by peft.

Several times slower than `agent/learning/packed_llama.py`, and there for what that cannot do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agent.engine.adapter import CONFIG, WEIGHTS
from agent.learning.learner import Base, number_format
from agent.learning.methods import peft_config
from agent.learning.packing import Pack
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError

_IMPORTANCE, _RANKS = ("ipt", "exp_avg_ipt", "exp_avg_unc"), "rank_pattern"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class PeftLearner:
    """A `Learner` around a transformers model."""

    shares = False

    def __init__(self, base: Base, recipe: Recipe, steps: int) -> None:
        self._base, self._recipe = base, recipe
        self.device, dtype = number_format(recipe)
        if recipe.method == "full":
            dtype = torch.float32  # what AdamW adds is often below bfloat16's resolution
        self._dtype = dtype
        model = self._load()
        config = peft_config(recipe, layers=base.sizes()["num_hidden_layers"], steps=steps)
        self.head: Tensor = model.get_output_embeddings().weight
        self.embedding: Tensor = model.get_input_embeddings().weight
        self._peft: Any = None
        torch.manual_seed(recipe.seed)
        if config is not None:
            self._peft = _wrapped(model, config, base)
        # In place of logits come the hidden states that they are made of.
        model.set_output_embeddings(torch.nn.Identity())
        self._model = model
        self._original: Any = None
        self._runs = (self._peft if self._peft is not None else model).to(self.device).train()
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        named = self._runs.named_parameters()
        self.parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        if config is None and self.head.requires_grad and not any(p is self.head for p in self.parameters.values()):
            self.parameters["lm_head.weight"] = self.head  # pyright: ignore[reportArgumentType]

    def hidden(self, pack: Pack, *, adapted: bool = True, perturbation: Tensor | None = None) -> Tensor:
        """See `Learner.hidden`; the pack must share nothing."""
        if adapted:
            return self._hidden(self._runs, pack, perturbation)
        if self._peft is None:
            if self._original is None:
                self._original = self._load().to(self.device)
                self._original.set_output_embeddings(torch.nn.Identity())
            return self._hidden(self._original, pack, perturbation, virtual=False)
        with self._peft.disable_adapter():
            return self._hidden(self._peft, pack, perturbation, virtual=False)

    def _hidden(self, model: Any, pack: Pack, perturbation: Tensor | None, virtual: bool = True) -> Tensor:
        embed = self._model.get_input_embeddings()
        before = self._recipe.rank if virtual and self._recipe.method == "prompt" else 0
        found: list[Tensor] = []
        for number, segment in enumerate(pack.segments):
            places = slice(segment.start, segment.start + segment.count)
            embeds = embed(pack.ids[places])
            if perturbation is not None:
                embeds = embeds + perturbation[places].to(embeds.dtype)
            keep = pack.at[pack.owner == number] - segment.start + before
            output = model(
                inputs_embeds=embeds[None],
                attention_mask=torch.ones(1, segment.count, dtype=torch.long, device=self.device),
                logits_to_keep=keep,
                use_cache=False,
            )
            found.append(output.logits[0])
        return torch.cat(found)

    def penalty(self) -> Tensor | None:
        """AdaLoRA's: P and Q of its P diag(E) Q stay close to orthogonal (equation 4 of the paper)."""
        if self._recipe.method != "adalora":
            return None
        total = torch.zeros((), device=self.device)
        count = 0
        for name, matrix in self.parameters.items():
            if "lora_A" in name or "lora_B" in name:
                square = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
                total = total + (square - torch.eye(len(square), device=square.device)).norm()
                count += 1
        return total * (self._peft.peft_config["default"].orth_reg_weight / max(count, 1))

    def after_step(self, step: int) -> None:
        """See `Learner.after_step`."""
        if self._recipe.method == "adalora":
            self._peft.base_model.update_and_allocate(step)

    def refresh(self) -> None:
        """Nothing is copied."""

    def kept(self) -> dict[str, Tensor]:
        """See `Learner.kept`: AdaLoRA's importance of each rank so far, and which ranks are left."""
        if self._recipe.method != "adalora":
            return {}
        allocator = self._peft.base_model.rankallocator
        found = {f"{kind} {name}": t for kind in _IMPORTANCE for name, t in getattr(allocator, kind).items()}
        pattern = self._peft.peft_config["default"].rank_pattern or {}
        return found | {f"{_RANKS} {name}": torch.tensor(flags) for name, flags in pattern.items()}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """See `Learner.restore`."""
        for name, tensor in kept.items():
            kind, _, of = name.partition(" ")
            if kind != _RANKS:
                getattr(self._peft.base_model.rankallocator, kind)[of] = tensor.to(self.device)
        ranks = {n.partition(" ")[2]: t.tolist() for n, t in kept.items() if n.startswith(_RANKS)}
        if ranks:
            self._peft.peft_config["default"].rank_pattern = ranks

    def save(self, folder: Path) -> None:
        """See `Learner.save`. `full` writes a whole model instead, to be used with --model."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._peft is None:
            self._save_model(folder)
            return
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        config = self._peft.peft_config["default"]
        state = get_peft_model_state_dict(self._peft)
        tensors = {n: t.detach().to("cpu", torch.bfloat16).contiguous() for n, t in state.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config.inference_mode = True
        config.base_model_name_or_path = self._base.spec
        config.save_pretrained(str(folder))
        config.inference_mode = False
        # peft writes sets, whose order changes from run to run.
        written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        ordered = {k: sorted(v) if isinstance(v, list) and k.endswith("modules") else v for k, v in written.items()}
        (folder / CONFIG).write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _save_model(self, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {n: t.detach().to("cpu", torch.bfloat16).contiguous() for n, t in self._model.state_dict().items()}
        if not self._model.config.tie_word_embeddings:
            state["lm_head.weight"] = self.head.detach().to("cpu", torch.bfloat16).contiguous()
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        config = {**self._base.config(), "dtype": "bfloat16"}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name in TOKENIZER_FILES:
            if (self._base.folder / name).is_file():
                shutil.copyfile(self._base.folder / name, folder / name)

    def _load(self) -> Any:
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(
                self._base.folder, dtype=self._dtype, attn_implementation="sdpa", local_files_only=True
            )
        except Exception as error:  # from_pretrained raises of every kind
            reason = " ".join(str(error).split())[:300]
            raise WhetstoneError(f"the model in {self._base.folder} cannot be loaded: {reason}") from error
        return model


def _wrapped(model: Any, config: Any, base: Base) -> Any:
    from peft import get_peft_model

    try:
        return get_peft_model(model, config)
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise WhetstoneError(
            f"this method does not fit {base.spec} ({reason}): name its layers with --targets"
        ) from error
