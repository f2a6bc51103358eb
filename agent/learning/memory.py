"""What a training needs of memory, and what the machine has."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.learning.examples import Example
from agent.learning.learner import Base, number_format
from agent.learning.packing import input_length
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError

OVERHEAD = 600 * 2**20
"""Python, torch and what the allocator holds back."""
FULL_METHODS = ("full",)


def check_memory(base: Base, recipe: Recipe, examples: Sequence[Example]) -> bool:
    """Whether there is plenty of memory: room for the attention weights, and half as much again.

    Raises WhetstoneError, with the estimate, if training would not fit into the memory that is free.
    """
    need, free = needed_bytes(base, recipe, examples), free_bytes(recipe)
    if need > free:
        raise WhetstoneError(
            f"training {base.spec} needs about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: give a"
            " smaller --batch-tokens, --gradient-checkpointing, --dtype bf16, or a smaller model"
        )
    return 1.5 * (need + attention_weights_bytes(base, recipe, examples)) < free


def needed_bytes(base: Base, recipe: Recipe, examples: Sequence[Example]) -> int:
    """An estimate from above: weights, what learns and its optimizer, what a micro-batch keeps for its gradient."""
    config = base.sizes()
    _, dtype = number_format(recipe)
    width = 2 if "bfloat16" in str(dtype) else 4
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    inner = config.get("intermediate_size") or 4 * hidden
    parameters = _parameters(base.folder)
    linear = hidden * hidden * 4 + 3 * hidden * inner
    if recipe.method in FULL_METHODS:
        learning = parameters * 4 * 4
    else:
        # Values, gradient and two moments in float32, a copy in the number format.
        learning = recipe.rank * layers * (9 * hidden + 3 * inner + 2 * hidden) * (16 + width)
    longest = max((input_length(example) for example in examples), default=0)
    tokens = max(recipe.batch_tokens, longest)
    kept = hidden if recipe.gradient_checkpointing else 8 * hidden + 2 * inner
    activations = tokens * (kept * layers + 8 * inner + 12 * hidden) * width
    logits = 256 * config["vocab_size"] * (4 + width)
    # The largest weight is converted from float32 one layer at a time.
    return parameters * width + linear * 8 + learning + activations + logits + OVERHEAD


def attention_weights_bytes(base: Base, recipe: Recipe, examples: Sequence[Example]) -> int:
    """What keeping the attention weights of a micro-batch takes."""
    config = base.sizes()
    _, dtype = number_format(recipe)
    lengths = [input_length(example) for example in examples]
    # A token attends to half of its session's own tokens and to all of the shared ones.
    seen = max(((length + example.shared) / 2 for length, example in zip(lengths, examples, strict=True)), default=0)
    tokens = max(recipe.batch_tokens, max(lengths, default=0))
    width = 2 if "bfloat16" in str(dtype) else 4
    return int(tokens * (seen + 128) * config["num_attention_heads"] * config["num_hidden_layers"] * width)


def free_bytes(recipe: Recipe) -> int:
    """Memory that is free where the training runs, the container's limit counted in."""
    device, _ = number_format(recipe)
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    available = _meminfo("MemAvailable")
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return available if limit is None or used is None else min(available, limit - used)


def held_bytes() -> int:
    """Memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * 4096


def keep_freed_memory() -> None:
    """Have the C library keep large blocks for the next step instead of giving each back to the system.

    A block that is fetched anew is cleared page by page. What is held back grows with every new size of block, so
    `give_back_freed_memory` must be called from time to time.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without it
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)


def give_back_freed_memory() -> None:
    """Return what the C library holds back and does not use."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                size = 1
                for length in opened.get_slice(name).get_shape():
                    size *= length
                count += size
    return count


def _meminfo(key: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 2**62  # a system that does not say: the training may try
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _cgroup(name: str) -> int | None:
    try:
        return int((Path("/sys/fs/cgroup") / name).read_text())
    except (OSError, ValueError):
        return None
