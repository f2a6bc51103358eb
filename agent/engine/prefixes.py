"""Keys and values of the system turn, kept between processes: the next run of the same model need not read it again.

A file belongs to one model, adapter and number format and to exact token ids, so it cannot be taken for another's. The
engine reads the system turn in passes of its own whether or not there is a file, so what follows is the same token for
token either way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.digests import keep_file
from agent.engine.kvcache import KVCache

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = 1
KEPT = 16
"""So many system turns at most, the ones used last; the starter's takes 8 MB."""


class PrefixFiles:
    """The files of one network in a folder; `key` is all that its keys and values depend on besides the ids."""

    def __init__(self, folder: Path, key: Sequence[Any]) -> None:
        self._folder = folder
        self._key = json.dumps([LAYOUT, *key], sort_keys=True)
        self._known: set[Path] = set()

    def read(self, ids: Sequence[int]) -> KVCache | None:
        """A cache that holds `ids`; None where none was kept or the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        file = self._file(ids)
        try:
            digest, content = _split(file.read_bytes())
            if sha256(content).digest() != digest:
                return None
            tensors = load(content)
            os.utime(file)
        except (OSError, SafetensorError, ValueError):
            return None
        self._known.add(file)
        pairs = [(tensors[f"{n}.keys"], tensors[f"{n}.values"]) for n in range(len(tensors) // 2)]
        return KVCache.of(ids, pairs)

    def write(self, ids: Sequence[int], cache: KVCache) -> None:
        """Keep what `cache` holds of `ids`, which it begins with. A full disk, or no memory for a copy, costs time at
        the next start, no more."""
        file = self._file(ids)
        if file in self._known:
            return
        self._known.add(file)
        keep_file(file, lambda place: place.write_bytes(_content(cache.held(len(ids)))), newest=KEPT)

    def _file(self, ids: Sequence[int]) -> Path:
        return self._folder / f"{sha256(f'{self._key} {list(ids)}'.encode()).hexdigest()[:32]}.kv"


def _content(held: Sequence[tuple[Tensor, Tensor]]) -> bytes:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for n, (keys, values) in enumerate(held):
        tensors[f"{n}.keys"], tensors[f"{n}.values"] = keys.contiguous(), values.contiguous()
    content = save(tensors)
    return sha256(content).digest() + content


def _split(raw: bytes) -> tuple[bytes, bytes]:
    size = sha256().digest_size
    return raw[:size], raw[size:]
