"""Adapters: a LoRA is loaded onto the base it was trained on, and onto no other.

peft checks shapes only, and every model of one size has the same shapes. So an adapter of this project carries
`whetstone.json` beside its weights: the digests of base, tokenizer and chat template it was trained with, of the
weights themselves and of their configuration. An adapter without it can be used, with a warning, if it fits.

Plain LoRA is merged here (W + s * B @ A, Hu et al. 2021); every other kind that changes weights is merged by peft.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.digests import content_digest, write_whole
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

CARD = "whetstone.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
VIRTUAL = ("PREFIX_TUNING", "PROMPT_TUNING")
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_NOT_PLAIN = (
    "use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias",
    "use_qalora", "alora_invocation_tokens", "trainable_token_indices", "target_parameters", "use_bdlora",
)  # fmt: skip


@dataclass(frozen=True)
class Lineage:
    """What an adapter belongs to: sha256 hex of the base's weights, the tokenizer and the chat template."""

    base_digest: str
    tokenizer_digest: str
    template_digest: str


@dataclass(frozen=True)
class Adapter:
    """An adapter that may be loaded. `digest` is the sha256 of its weights, `warning` empty where its card vouches."""

    folder: Path
    config: Mapping[str, Any]
    digest: str
    warning: str = ""


def write_card(folder: Path, lineage: Lineage, **more: Any) -> None:
    """Record in an adapter's folder what it was trained on; `more` are further JSON values (scores, provenance)."""
    digests = {"adapter_sha256": _digest(folder / WEIGHTS), "config_sha256": _digest(folder / CONFIG)}
    write_whole(folder / CARD, json.dumps({**asdict(lineage), **digests, **more}, indent=2))


def check_files(folder: Path, card: Mapping[str, Any], weights: str | None = None) -> None:
    """Raise WhetstoneError if weights or configuration of an adapter are not those that its card records.

    `weights` is the sha256 of the weights where it is known; a card without that of the configuration is an older one.
    """
    wrong = "weights" if card.get("adapter_sha256") != (weights or _digest(folder / WEIGHTS)) else ""
    configuration = _digest(folder / CONFIG)
    if card.get("config_sha256", configuration) != configuration:
        wrong = wrong or "configuration"
    if wrong:
        raise WhetstoneError(
            f"the {wrong} of the adapter {folder} {'are' if wrong == 'weights' else 'is'} not what its {CARD} records:"
            " restore it, or train it again"
        )


def read_adapter(folder: Path, lineage: Lineage, cache: Path) -> Adapter:
    """The adapter in `folder`, if it belongs to a base with this lineage.

    Raises WhetstoneError if it was trained on something else, if its weights or its configuration are not those its
    card records, or if it is no adapter.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise WhetstoneError(f"{folder} is not an adapter: it needs {CONFIG} and {WEIGHTS}")
    config = _read(folder / CONFIG)
    digest = content_digest(folder / WEIGHTS, cache)
    if not (folder / CARD).is_file():
        trained_on = config.get("base_model_name_or_path") or "an unnamed base"
        warning = (
            f"the adapter {folder.name} has no {CARD}; its config names {trained_on}; only its shapes were checked"
        )
        return Adapter(folder, config, digest, warning)
    card = _read(folder / CARD)
    check_files(folder, card, digest)
    names = {"base_digest": "base model", "tokenizer_digest": "tokenizer", "template_digest": "chat template"}
    others = [name for key, name in names.items() if card.get(key) != getattr(lineage, key)]
    if others:
        raise WhetstoneError(
            f"the adapter {folder} was trained with another {' and another '.join(others)}:"
            " give the model it belongs to with --model, or leave the adapter out with --adapter none"
        )
    return Adapter(folder, config, digest)


def network_key(lineage: Lineage, config: Mapping[str, Any], adapter: Adapter | None) -> list[Any]:
    """What tells the weights of a network from all others', as JSON; `config` is that of its config.json."""
    from agent.engine.gguf import FORMAT  # the base may be a GGUF file, whose digest says nothing of its conversion

    return [
        FORMAT,
        lineage.base_digest,
        dict(config),
        None if adapter is None else [adapter.digest, dict(adapter.config)],
    ]


def is_plain_lora(adapter: Adapter) -> bool:
    """Whether `merge` computes this adapter exactly; peft must merge the others."""
    config = adapter.config
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and config.get("init_lora_weights", True) in (True, False, "gaussian", "orthogonal", "eva")
        and not any(config.get(name) for name in _NOT_PLAIN)
        and all(name.endswith((_A, _B)) for name in _names(adapter))  # an embedding's LoRA is laid out otherwise
    )


def _names(adapter: Adapter) -> list[str]:
    from safetensors import safe_open

    with safe_open(adapter.folder / WEIGHTS, framework="pt") as opened:
        return list(opened.keys())


def is_virtual(adapter: Adapter) -> bool:
    """Whether it is made of virtual tokens before the prompt instead of changing weights (`agent.engine.virtual`)."""
    return adapter.config.get("peft_type") in VIRTUAL


def merge(adapter: Adapter, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` (a model's state dict) with a plain LoRA added in float32.

    Raises WhetstoneError where the adapter names a weight that the model does not have, or of another shape.
    """
    from safetensors.torch import load_file

    rank, alpha = adapter.config["r"], adapter.config["lora_alpha"]
    scale = alpha / (math.sqrt(rank) if adapter.config.get("use_rslora") else rank)
    deltas = load_file(adapter.folder / WEIGHTS)
    merged = dict(weights)
    for name, a in deltas.items():
        if not name.endswith(_A):
            continue
        b = deltas[name.removesuffix(_A) + _B]
        target = name.removeprefix(_PREFIX).removesuffix(_A) + ".weight"
        weight = weights.get(target)
        if weight is None or weight.shape != (b.shape[0], a.shape[1]):
            have = "nothing" if weight is None else f"{tuple(weight.shape)}"
            raise WhetstoneError(
                f"the adapter {adapter.folder} does not fit the model: it changes {target}, {(b.shape[0], a.shape[1])},"
                f" where the model has {have}; give the model it belongs to with --model"
            )
        merged[target] = weight.float() + scale * (b.float() @ a.float())
    return merged


def merge_by_peft(adapter: Adapter, model: Any) -> Any:
    """A transformers model with any kind of adapter merged into it. Raises WhetstoneError where it does not fit."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(adapter.folder)).merge_and_unload()
    except Exception as error:  # peft raises whatever the kind of adapter raises
        reason = " ".join(str(error).split())[:300]
        raise WhetstoneError(f"the adapter {adapter.folder} cannot be merged into the model: {reason}") from error


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{path} cannot be read ({error}): restore the adapter, or train it again") from error
