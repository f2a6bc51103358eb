"""A model that was found, made ready to run: number format, adapter, device.

Weights are mapped, not read, and transformers is imported only for models that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from agent.engine import rounded
from agent.engine.adapter import Adapter, Lineage, is_plain_lora, is_virtual, merge, merge_by_peft, read_adapter
from agent.engine.ensemble import is_ensemble, load_ensemble
from agent.engine.finding import FoundModel, base_digest, config_of, find_model, weight_files
from agent.engine.gguf import Progress
from agent.engine.network import Network, Reader
from agent.engine.precision import DType
from agent.engine.quantized_files import int8_weights, whole
from agent.engine.threads import wait_awake
from agent.engine.tokenizer import ModelTokenizer
from agent.engine.torch_import import import_torch
from agent.engine.virtual import with_virtual_tokens
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from agent.engine.llama import LlamaNetwork


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


WhichAdapter = Path | Callable[[Lineage], Path | None] | None
"""An adapter's folder, a function that is told the base's lineage and names one, or none."""
WhichDType = Literal["auto", "fp32", "bf16", "int8"]


def load_model(
    spec: str,
    *,
    adapter: WhichAdapter = None,
    dtype: WhichDType = "auto",
    device: str = "auto",
    threads: int | None = None,
    cache: Path,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a model, and an adapter onto it: `open_base` and `OpenBase.with_adapter`, which say what is raised."""
    return open_base(spec, device=device, threads=threads, cache=cache, progress=progress).with_adapter(adapter, dtype)


def open_base(
    spec: str, *, device: str = "auto", threads: int | None = None, cache: Path, progress: Progress | None = None
) -> OpenBase:
    """Find a model and import what runs it.

    `cache` is the folder for converted models and digests; `threads` sets torch's threads for the whole process (None
    leaves them). `progress` is told about a conversion; by default a bar shows on a terminal. Raises WhetstoneError,
    naming what to do, for an unknown model, a missing package, a broken file.
    """
    wait_awake()
    found = find_model(spec, cache=cache, progress=progress)
    import_torch()
    import torch

    if threads:
        torch.set_num_threads(threads)
    return OpenBase(found, _device(device), cache)


class OpenBase:
    """A base on which adapters take turns: it is found, checked and mapped once, however many there are.

    Models that transformers has to run are read anew for each adapter, which is merged into them.
    """

    def __init__(self, found: FoundModel, device: torch.device, cache: Path) -> None:
        self._found = found
        self._device = device
        self._cache = cache
        self.config = config_of(found.folder)
        self.folder = found.folder

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The state dict, mapped at first use; whole where the folder holds int8 weights."""
        return _mapped(self.folder)

    def with_adapter(self, adapter: WhichAdapter = None, dtype: WhichDType = "auto") -> LoadedModel:
        """The model with an adapter on it, or with none; `adapter` may also hold an ensemble (`agent.engine.ensemble`).

        Raises WhetstoneError, naming what to do, for an adapter of another base, for weights that do not fit, and if
        the base on disk is not the one that was opened.
        """
        found, lineage = self._found, self._found.lineage
        if base_digest(found.spec, self._cache) != lineage.base_digest:
            raise WhetstoneError(f"the model {found.spec} was changed on disk while it was in use: start again")
        wanted = adapter(lineage) if callable(adapter) else adapter
        if wanted is not None and is_ensemble(wanted):

            def load_member(member: Path, like: str | None) -> LoadedModel:
                return self.with_adapter(member, dtype if like is None else cast("DType", like))

            return load_ensemble(wanted, lineage, load_member)
        chosen = None if wanted is None else read_adapter(wanted.expanduser(), lineage, self._cache)
        notes = [chosen.warning] if chosen is not None and chosen.warning else []
        on_gpu = self._device.type != "cpu"
        builder = _Builder(self, chosen, self._device, rounded.place(self._cache, self.config, lineage, chosen))
        if dtype == "auto":
            from agent.engine.choice import choose_dtype

            network, why = choose_dtype(builder.build, lineage, chosen, found.tokenizer, self._cache, on_gpu=on_gpu)
            notes.append(why)
        else:
            if dtype == "int8" and on_gpu:
                raise WhetstoneError("int8 is for the CPU: use --dtype bf16 on a GPU")
            network = builder.build(dtype)
        if found.tokenizer.size > network.vocabulary:
            raise WhetstoneError(
                f"the tokenizer of {found.spec} has {found.tokenizer.size} tokens and the model {network.vocabulary}:"
                " they do not belong together, fetch the model again"
            )
        return LoadedModel(
            network, found.tokenizer, found.spec, found.folder, lineage, chosen, network.dtype, str(self._device),
            tuple(notes),
        )  # fmt: skip


class _Builder:
    """Builds the network in a number format; it merges once. `kept` is the file of its int8 weights."""

    def __init__(self, base: OpenBase, adapter: Adapter | None, device: torch.device, kept: Path) -> None:
        self._base = base
        self._folder = base.folder
        self._config: Mapping[str, Any] = base.config
        self._rounded = kept
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
        weights = self._state() if known is None else self._base.weights
        fresh = known is None
        known = known or {}
        network = LlamaNetwork(self._config, weights, dtype="int8", device=self._device, known=known)
        if fresh:
            rounded.write(self._rounded, known)
        return network

    def _state(self) -> dict[str, Tensor]:
        if self._weights is not None:
            return self._weights
        weights = self._base.weights
        if self._adapter is not None and is_plain_lora(self._adapter):
            weights = merge(self._adapter, weights)
        elif self._adapter is not None:
            from agent.engine.generic import load_transformers

            weights = merge_by_peft(self._adapter, load_transformers(self._folder, "fp32")).state_dict()
        self._weights = weights
        return weights


def _mapped(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
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
