"""New adapters out of old ones: several that decide together, several in one, one inside its base."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import (
    CARD,
    CONFIG,
    WEIGHTS,
    Adapter,
    Lineage,
    is_plain_lora,
    merge,
    merge_by_peft,
    read_adapter,
    write_card,
)
from agent.engine.digests import write_whole
from agent.engine.ensemble import ENSEMBLE, describe_ensemble
from agent.learning.adapters import Entry
from agent.learning.learner import Base, mapped_weights
from agent.learning.model_folders import write_model
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

    from agent.engine.models import LoadedModel

_A, _B = ".lora_A.weight", ".lora_B.weight"
_MAKING = ("data_sha256", "dataset", "recipe", "training", "kind", "weights", "made_of")
"""Of a member's card, what says how it was made; one that is itself a merge says so of its own members."""


def write_ensemble(folder: Path, members: Sequence[Entry]) -> Path:
    """Make the ensemble of adapters in a new folder: averaged probabilities while decoding. Returns the folder.

    Raises WhetstoneError for fewer than two, or for adapters of different bases.
    """
    lineage = _common_lineage(members)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / ENSEMBLE, json.dumps(describe_ensemble([member.folder for member in members]), indent=2))
    card = {**_lineage_fields(lineage), "kind": "ensemble", **_parents(members)}
    write_whole(folder / CARD, json.dumps(card, indent=2))
    return folder


def write_weighted(
    folder: Path, members: Sequence[Entry], weights: Sequence[float], *, cache: Path, rank: int = 0
) -> Path:
    """Make one LoRA whose change of the base is the weighted sum of those of `members`; returns the folder.

    The sum is exact: the ranks add up. With `rank`, each matrix is cut down to its best approximation of that rank
    (truncated singular value decomposition; Eckart and Young 1936), in bfloat16 as trainings write it. Raises
    WhetstoneError for adapters that are no plain LoRA or of different bases, and for another number of weights than of
    adapters.
    """
    from safetensors.torch import load_file, save_file

    lineage = _common_lineage(members)
    if len(weights) != len(members):
        raise WhetstoneError(f"{len(members)} adapters need as many weights, not {len(weights)}")
    adapters = [read_adapter(member.folder, lineage, cache) for member in members]
    for member, adapter in zip(members, adapters, strict=True):
        if not is_plain_lora(adapter):
            raise WhetstoneError(f"adapter {member.id} is no plain LoRA: merge it by training, or use an ensemble")
    tensors = [load_file(member.folder / WEIGHTS) for member in members]
    names = sorted({name.removesuffix(_A) for one in tensors for name in one if name.endswith(_A)})
    total = rank or sum(adapter.config["r"] for adapter in adapters)
    combined: dict[str, Tensor] = {}
    for name in names:
        parts = [
            (one[name + _A].float(), one[name + _B].float() * weight * _scale(adapter))
            for one, adapter, weight in zip(tensors, adapters, weights, strict=True)
            if name + _A in one
        ]
        combined[name + _A], combined[name + _B] = _sum(parts, total)
    if rank:
        combined = {name: tensor.bfloat16() for name, tensor in combined.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(combined, folder / WEIGHTS)
    targets = sorted({name.rsplit(".", 1)[-1] for name in names})
    config = {
        **adapters[0].config, "r": total, "lora_alpha": total, "use_rslora": False, "target_modules": targets,
        "init_lora_weights": True, "layers_to_transform": None,
    }  # fmt: skip
    write_whole(folder / CONFIG, json.dumps(config, indent=2))
    write_card(folder, lineage, kind="weighted", weights=list(weights), **_parents(members))
    return folder


def write_merged(folder: Path, base: LoadedModel, entry: Entry, *, cache: Path, quantize: str = "") -> Path:
    """Write the base with an adapter inside it as a model folder of its own, in the base's number format or in int8.

    Raises WhetstoneError for an ensemble, if the folder exists, or for a model or a number format that `quantize` does
    not do.
    """
    from agent.engine.llama import understands

    if folder.exists():
        raise WhetstoneError(f"{folder} is there already: name a folder that does not exist yet")
    if (entry.folder / ENSEMBLE).is_file():
        raise WhetstoneError(f"adapter {entry.id} is an ensemble, which is no single model: export a weighted merge")
    if quantize == "gguf":
        raise WhetstoneError(
            "GGUF files are read here and not written: export with --merged alone, and convert that folder with"
            " llama.cpp's convert_hf_to_gguf.py"
        )
    if quantize not in ("", "int8"):
        raise WhetstoneError(f"weights are not stored as {quantize!r} here: use --quantize int8")
    if quantize and not understands(Base.of(base).config()):
        raise WhetstoneError(
            f"{base.spec} is run by transformers, which does not read these int8 weights: export it without --quantize,"
            " and run it with --dtype int8"
        )
    adapter = read_adapter(entry.folder, base.lineage, cache)
    weights = mapped_weights(base.folder)
    if is_plain_lora(adapter):
        merged = merge(adapter, weights)
    else:
        from agent.engine.generic import load_transformers

        found = merge_by_peft(adapter, load_transformers(base.folder, "fp32")).state_dict()
        merged = {name: found[name] for name in weights}
    if not quantize:
        merged = {name: merged[name].to(weight.dtype) for name, weight in weights.items()}
    return write_model(folder, base.folder, merged, int8=bool(quantize))


def _sum(parts: Sequence[tuple[Tensor, Tensor]], rank: int) -> tuple[Tensor, Tensor]:
    """A of [rank, in] and B of [out, rank] with B A the sum of all B A."""
    import torch

    a, b = torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts], 1)
    if a.shape[0] > rank:
        q_b, r_b = torch.linalg.qr(b)
        q_a, r_a = torch.linalg.qr(a.T)
        u, s, v = torch.linalg.svd(r_b @ r_a.T)
        root = s[:rank].sqrt()
        a, b = root[:, None] * (v[:rank] @ q_a.T), (q_b @ u[:, :rank]) * root
    missing = rank - a.shape[0]
    a = torch.cat([a, a.new_zeros(missing, a.shape[1])])
    b = torch.cat([b, b.new_zeros(b.shape[0], missing)], 1)
    return a.contiguous(), b.contiguous()


def _scale(adapter: Adapter) -> float:
    rank, alpha = adapter.config["r"], adapter.config["lora_alpha"]
    return alpha / (math.sqrt(rank) if adapter.config.get("use_rslora") else rank)


def _common_lineage(members: Sequence[Entry]) -> Lineage:
    if len(members) < 2:
        raise WhetstoneError("combining needs at least two adapters: name more")
    if len({member.lineage for member in members}) > 1:
        raise WhetstoneError("the adapters belong to different bases: combine adapters of one")
    if any((member.folder / ENSEMBLE).is_file() for member in members):
        raise WhetstoneError("an ensemble cannot be combined further: name its members")
    return members[0].lineage


def _parents(members: Sequence[Entry]) -> dict[str, Any]:
    """Where a combined adapter comes from: its parents and how each was made, everything they were trained on, and the
    suites that were kept out of all of it."""
    sessions: dict[str, dict[tuple[str, ...], None]] = {}
    for member in members:
        for source, used in (member.card.get("sessions") or {}).items():
            sessions.setdefault(source, {}).update(dict.fromkeys(map(tuple, used)))
    suites = [member.card.get("held_out") or () for member in members]
    return {
        "parents": [member.id for member in members],
        "made_of": [{key: member.card[key] for key in _MAKING if key in member.card} for member in members],
        "sessions": {source: [list(one) for one in used] for source, used in sessions.items()},
        "held_out": [suite for suite in suites[0] if all(suite in others for others in suites)],
    }


def _lineage_fields(lineage: Lineage) -> dict[str, str]:
    return {
        "base_digest": lineage.base_digest,
        "tokenizer_digest": lineage.tokenizer_digest,
        "template_digest": lineage.template_digest,
    }
