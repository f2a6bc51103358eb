"""int8 weights as a start left them, so that the next one need not merge the adapter and round again.

What is kept are the rounded weights and their scales, by base, adapter and network; norms and embeddings stay in the
base's own files. Packing for this processor comes after, in the background, while the rest of a start goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.engine.adapter import Adapter, Lineage, network_key
from agent.engine.digests import ROUNDED, keep_file
from agent.engine.precision import Rounded

LAYOUT = 1
KEPT = 4
"""So many models at most, the ones used last: each takes as many bytes as it has weights."""
_SCALE = ".scale"


def place(cache: Path, config: Mapping[str, Any], lineage: Lineage, adapter: Adapter | None) -> Path:
    """Where the rounded weights of this base with this adapter are kept."""
    key = json.dumps([LAYOUT, *network_key(lineage, config, adapter)], sort_keys=True)
    return cache / ROUNDED / f"{sha256(key.encode()).hexdigest()[:32]}.safetensors"


def read(file: Path) -> dict[str, Rounded] | None:
    """The rounded weights by name, mapped; None where there are none, or the file was cut short.

    What it says is not checked again: reading all of it would take as long as it saves.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        os.utime(file)
    except (OSError, SafetensorError):
        return None
    return {n: Rounded(t, tensors[n + _SCALE]) for n, t in tensors.items() if not n.endswith(_SCALE)}


def write(file: Path, weights: Mapping[str, Rounded]) -> None:
    """Keep them, and remove what was used least recently. A folder that cannot be written to costs time, not a run."""
    from safetensors.torch import save_file

    tensors = {name: each.weight for name, each in weights.items()}
    tensors |= {name + _SCALE: each.scale for name, each in weights.items()}
    keep_file(file, partial(save_file, tensors), newest=KEPT)
