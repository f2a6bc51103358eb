"""What the trainer trains: a base model with something in it that learns.

There are two kinds. LoRA on the Llama family runs packed (`agent/learning/packed_llama.py`); everything else runs
through peft over transformers (`agent/learning/peft_learner.py`). Objectives cannot tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.engine.adapter import CONFIG, WEIGHTS, Lineage
from agent.engine.finding import with_sizes
from agent.engine.precision import multiplies_bf16
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from agent.engine.finding import FoundModel
    from agent.engine.models import LoadedModel
    from agent.learning.packed_llama import PackedLlama
    from agent.learning.packing import Pack


@dataclass(frozen=True)
class Base:
    """The model that is trained on top of: where it lies and what proves that it is the same later."""

    spec: str
    folder: Path
    lineage: Lineage

    @classmethod
    def of(cls, loaded: LoadedModel | FoundModel) -> Base:
        """The base of a model, without its adapter."""
        return cls(loaded.spec, loaded.folder, loaded.lineage)

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    def sizes(self) -> dict[str, Any]:
        """Its config.json with the usual names of its sizes: `agent.engine.finding.with_sizes`, which says what is
        raised."""
        return with_sizes(self.config())


class Learner(Protocol):
    """A model that learns. `head` and `embedding` are [vocabulary, d]; parameters are float32 leaves by their name."""

    head: Tensor
    embedding: Tensor
    parameters: dict[str, torch.nn.Parameter]
    device: torch.device
    shares: bool
    """Whether a common beginning may be computed once."""

    def hidden(self, pack: Pack, *, adapted: bool = True, perturbation: Tensor | None = None) -> Tensor:
        """Hidden states [targets, d] that predict `pack.labels`; `adapted=False`: the base's.

        `perturbation`, [tokens, hidden size], is added to the embeddings.
        """
        ...

    def penalty(self) -> Tensor | None:
        """What the method itself adds to the loss of a step."""
        ...

    def after_step(self, step: int) -> None:
        """Called after the optimizer's step (counted from 0), while the gradients are still there."""
        ...

    def refresh(self) -> None:
        """Called after the parameters were changed."""
        ...

    def kept(self) -> dict[str, Tensor]:
        """What the method itself carries from step to step beside its parameters, by name."""
        ...

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on with what `kept` returned."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was learned: `adapter_config.json` and bfloat16 `adapter_model.safetensors`."""
        ...


def open_learner(base: Base, recipe: Recipe, *, steps: int, keep_weights: bool = False) -> Learner:
    """The learner for a recipe of `steps` optimizer steps. Raises WhetstoneError for what this model cannot do.

    `keep_weights` trades memory for speed, where the learner can.
    """
    if _packs(base, recipe):
        return PackedLearner(base, recipe, keep_weights)
    from agent.learning.peft_learner import PeftLearner

    return PeftLearner(base, recipe, steps)


def shares(base: Base, recipe: Recipe) -> bool:
    """Whether a training computes common beginnings once."""
    # A perturbation of a shared beginning would depend on who else is in the pack.
    return _packs(base, recipe) and recipe.objective != "adversarial"


def _packs(base: Base, recipe: Recipe) -> bool:
    from agent.learning.packed_llama import trains

    return recipe.method in ("lora", "rslora") and trains(base.config())


class PackedLearner:
    """LoRA or rsLoRA on the Llama family."""

    def __init__(self, base: Base, recipe: Recipe, keep_weights: bool = False) -> None:
        from agent.learning.packed_llama import LINEAR, PackedLlama

        config = base.config()
        self._base, self._recipe = base, recipe
        self.shares = shares(base, recipe)
        self._targets = recipe.targets or LINEAR
        unknown = set(self._targets) - set(LINEAR)
        if unknown:
            raise WhetstoneError(f"the model has no layer {', '.join(sorted(unknown))}: there are {', '.join(LINEAR)}")
        self._first = max(config["num_hidden_layers"] - recipe.layers, 0) if recipe.layers else 0
        self._layers: int = config["num_hidden_layers"]
        device, dtype = number_format(recipe)
        self._network: PackedLlama = PackedLlama(
            config,
            mapped_weights(base.folder),
            rank=recipe.rank,
            scale=recipe.alpha / (recipe.rank**0.5 if recipe.method == "rslora" else recipe.rank),
            targets=self._targets,
            first_layer=self._first,
            dtype=dtype,
            device=device,
            seed=recipe.seed,
            checkpointing=recipe.gradient_checkpointing,
            keep_weights=keep_weights,
        )
        self.head, self.embedding = self._network.head, self._network.embedding
        self.parameters = self._network.parameters
        self.device = self._network.device

    def hidden(self, pack: Pack, *, adapted: bool = True, perturbation: Tensor | None = None) -> Tensor:
        return self._network.hidden(pack, adapted=adapted, perturbation=perturbation)

    def penalty(self) -> Tensor | None:
        return None

    def after_step(self, step: int) -> None:
        return

    def refresh(self) -> None:
        self._network.refresh()

    def kept(self) -> dict[str, Tensor]:
        return {}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        return

    def save(self, folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in self.parameters.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        recipe = self._recipe
        config: dict[str, Any] = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": self._base.spec,
            "r": recipe.rank, "lora_alpha": recipe.alpha, "use_rslora": recipe.method == "rslora",
            "target_modules": sorted(self._targets), "lora_dropout": 0.0, "bias": "none", "inference_mode": True,
            "layers_to_transform": list(range(self._first, self._layers)) if self._first else None,
        }  # fmt: skip
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def number_format(recipe: Recipe) -> tuple[torch.device, torch.dtype]:
    """Where to compute and in what: bfloat16 where the machine multiplies it faster than float32."""
    import torch

    if recipe.device == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        device = torch.device(recipe.device)
    if recipe.dtype != "auto":
        return device, torch.bfloat16 if recipe.dtype == "bf16" else torch.float32
    fast = device.type == "cuda" or multiplies_bf16()
    return device, torch.bfloat16 if fast else torch.float32


def mapped_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict of a model folder, mapped from its files; in float32 where they hold int8."""
    from safetensors import safe_open

    from agent.engine.quantized_files import whole

    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            weights |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if not weights:
        raise WhetstoneError(f"{folder} has no *.safetensors: fetch the model again")
    return whole(weights)
