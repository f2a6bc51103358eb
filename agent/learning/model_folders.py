"""Whole models as folders that `--model` takes: written from changed weights and the other files of their base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import CARD
from agent.engine.digests import write_whole
from agent.engine.quantized_files import write_int8
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

OTHER_FILES = (".json", ".jinja", ".txt", ".model")
CONFIG = "config.json"


def write_model(
    folder: Path,
    like: Path,
    weights: Mapping[str, Tensor],
    *,
    int8: bool = False,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write `weights` (a state dict) to a new folder, with tokenizer and configuration of the model in `like`.

    `int8` stores its matrices so (`agent.engine.quantized_files`); `config` takes the place of the configuration.
    Raises WhetstoneError if the folder exists.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise WhetstoneError(f"{folder} is there already: name a folder that does not exist yet")
    folder.mkdir(parents=True)
    if int8:
        write_int8(folder, weights)
    else:
        tensors = {name: weight.contiguous() for name, weight in weights.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in like.iterdir():
        # The card of a converted model speaks of the weights it was made of.
        if file.suffix in OTHER_FILES and "safetensors" not in file.name and file.name != CARD:
            shutil.copyfile(file, folder / file.name)
    if config is not None:
        write_whole(folder / CONFIG, json.dumps(dict(config), indent=2))
    return folder


def size(folder: Path) -> int:
    """Bytes of a model's weights on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
