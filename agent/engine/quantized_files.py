"""Models whose weights lie on disk in int8: a quarter of float32, and nothing to round at a start.

A matrix `X.weight` is stored as `X.weight.int8` and `X.weight.step`, a step for each of its rows; what is no matrix
stays as it is. The numbers are those that `--dtype int8` would have made of the whole model, so it says the same, but
for the table of embeddings, which is rounded here and is not there.

The file has a name of its own, so that nothing else takes int8 for values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

    from agent.engine.precision import Rounded

FILE = "weights.int8.safetensors"
INT8, STEP = ".int8", ".step"
FUSED = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("mlp", ("gate_proj", "up_proj")),
)
"""Matrices that the network multiplies as one, which is named by the first."""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def write_int8(folder: Path, weights: Mapping[str, Tensor]) -> Path:
    """Write a state dict to `folder` with its matrices in int8; returns the file."""
    from safetensors.torch import save_file

    from agent.engine.precision import rounded

    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() == 2:
            tensors[name + INT8], tensors[name + STEP] = rounded(weight)
        else:
            tensors[name] = weight.contiguous()
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    return folder / FILE


def int8_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Rounded]] | None:
    """What `network_weights` makes of a model folder; None if its weights are not in int8.

    Raises WhetstoneError if the file is broken.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / FILE).is_file():
        return None
    try:
        with safe_open(folder / FILE, framework="pt") as opened:
            return network_weights({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WhetstoneError(f"{folder / FILE} is broken ({error}): export the model again") from error


def network_weights(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Rounded]] | None:
    """What `LlamaNetwork` takes to run in int8: its `weights` (norms, biases, embeddings) and what is `known` of them.

    No matrix but the table of embeddings goes through float32. `weights` are all tensors of the folder, as they are on
    disk; None if they are not in int8.
    """
    import torch

    from agent.engine.precision import Rounded

    stored = _stored(weights)
    if not stored:
        return None
    known = dict(stored)
    for name in stored:
        for group, (first, *others) in FUSED:
            if name.endswith(f".{group}.{first}.weight"):
                parts = [stored[name.replace(first, part)] for part in (first, *others)]
                known[name] = Rounded(torch.cat([p.weight for p in parts]), torch.cat([p.scale for p in parts]))
    table = known.pop(EMBEDDING)
    known.setdefault(HEAD, table)
    plain = {name: tensor for name, tensor in weights.items() if not name.endswith((INT8, STEP))}
    return {**plain, EMBEDDING: _values(table)}, known


def whole(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that was rounded, in float32: to merge an adapter into, to train on, for other number formats.

    Tensors of any other folder are returned as they are.
    """
    stored = _stored(weights)
    plain = {name: tensor for name, tensor in weights.items() if not name.endswith((INT8, STEP))}
    return dict(weights) if not stored else {**plain, **{name: _values(each) for name, each in stored.items()}}


def _stored(weights: Mapping[str, Tensor]) -> dict[str, Rounded]:
    from agent.engine.precision import Rounded

    names = [name.removesuffix(INT8) for name in weights if name.endswith(INT8)]
    missing = [name for name in names if name + STEP not in weights]
    if missing:
        raise WhetstoneError(f"the int8 weights of {missing[0]} have no steps: export the model again")
    return {name: Rounded(weights[name + INT8], weights[name + STEP]) for name in names}


def _values(rounded: Rounded) -> Tensor:
    return rounded.weight.float().mul_(rounded.scale[:, None])
