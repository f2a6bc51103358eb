"""Several adapters on one base that decide together: the probabilities of all are averaged at every token.

An ensemble is a folder with `ensemble.json`, which names the folders of its members and the sha256 of their weights.
It costs as many forward passes and as much memory as it has members.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import WEIGHTS, Adapter, Lineage, is_virtual
from agent.engine.kvcache import KVCache
from agent.engine.network import Network, Row
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

    from agent.engine.models import LoadedModel

ENSEMBLE = "ensemble.json"


def is_ensemble(folder: Path) -> bool:
    """Whether the folder holds an ensemble instead of one adapter."""
    return (folder.expanduser() / ENSEMBLE).is_file()


def describe_ensemble(members: Sequence[Path]) -> dict[str, Any]:
    """The content of `ensemble.json` for adapters in these folders."""
    return {"members": [{"folder": str(m.absolute()), "adapter_sha256": _digest(m / WEIGHTS)} for m in members]}


def load_ensemble(folder: Path, lineage: Lineage, load: Callable[[Path, str | None], LoadedModel]) -> LoadedModel:
    """The ensemble in `folder` as one model; `load` loads the base with one adapter, in a number format if it is given
    one: the others are loaded in that of the first.

    Raises WhetstoneError if a member is gone, is not the one that was chosen, or belongs to another base.
    """
    folder = folder.expanduser()
    try:
        content = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))
        members = [(Path(member["folder"]), str(member["adapter_sha256"])) for member in content["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WhetstoneError(f"the ensemble {folder} cannot be read ({error}): make it again") from error
    loaded: list[LoadedModel] = []
    for place, digest in members:
        if not place.is_dir():
            raise WhetstoneError(f"the ensemble {folder} needs the adapter {place}, which is gone: make it again")
        member = load(place, loaded[0].dtype if loaded else None)
        if member.lineage != lineage or member.adapter is None or member.adapter.digest != digest:
            raise WhetstoneError(f"the adapter {place} is not the one the ensemble {folder} was made of: make it again")
        if is_virtual(member.adapter):
            raise WhetstoneError(f"the adapter {place} is made of virtual tokens and cannot be one of an ensemble")
        loaded.append(member)
    if len(loaded) < 2:
        raise WhetstoneError(f"the ensemble {folder} has fewer than two adapters: make it again")
    together = sha256("".join(digest for _, digest in members).encode()).hexdigest()
    network = EnsembleNetwork([member.model for member in loaded])
    notes = (f"an ensemble of {len(loaded)} adapters: every token costs {len(loaded)} forward passes",)
    return replace(loaded[0], model=network, adapter=Adapter(folder, content, together), notes=notes)


class EnsembleNetwork:
    """A `Network` that averages the probabilities of others, which have the same vocabulary.

    Its cache holds the layers of all members, one after the other.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        first = members[0]
        if any(member.vocabulary != first.vocabulary for member in members):
            raise WhetstoneError("the models of an ensemble have different vocabularies: use adapters of one base")
        self._members = list(members)
        self.layers = sum(member.layers for member in members)
        self.vocabulary = first.vocabulary
        self.context_tokens = min(member.context_tokens for member in members)
        self.dtype = first.dtype
        self.device = first.device

    def new_cache(self) -> KVCache:
        """See `Network`."""
        return KVCache(self.layers)

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Log of the mean probabilities, in the shape of the members' logits."""
        import torch

        outputs: list[Tensor] = []
        layer = 0
        for member in self._members:
            own = [replace(row, cache=_Part(row.cache, layer)) for row in rows]
            outputs.append(torch.log_softmax(member.forward(own), -1))
            layer += member.layers
        return torch.logsumexp(torch.stack(outputs), 0) - torch.log(torch.tensor(float(len(outputs))))


class _Part(KVCache):
    """A member's layers in the cache of the whole."""

    def __init__(self, whole: KVCache, first_layer: int) -> None:
        self.ids, self.before = whole.ids, whole.before
        self._whole = whole
        self._first_layer = first_layer

    def write(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return self._whole.write(self._first_layer + layer, start, keys, values)


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
