"""A smaller model out of a larger one: whole layers are taken out, and what is left is healed by training.

    prune(load_model("starter", dtype="fp32", cache=cache), examples, holdout, 6, out, Recipe(max_minutes=10))

The layers that go are those that change the least of what passes through them: block influence, 1 - the mean cosine
between a layer's input and its output over tokens of the dataset (Men et al. 2024, "ShortGPT"). Without healing even a
few layers cost much; a LoRA on the same data, merged in, gives back a part of it. The report measures all three.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import merge, read_adapter
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.learning.examples import Example, within
from agent.learning.learner import Base, PackedLearner, mapped_weights
from agent.learning.model_folders import size, write_model
from agent.learning.packed_llama import PackedLlama, trains
from agent.learning.packing import batches, pack
from agent.learning.recipe import Recipe
from agent.learning.trainer import Progress, train
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

INFLUENCE_TOKENS = 6_000
"""Tokens of sessions that the influence of the layers is measured on."""
HELDOUT_TOKENS = 10_000
DECODED = 24
"""Tokens of which the time is taken, one after another."""
ROUNDS = 5
PER_LAYER = ("layer_types", "sliding_window_pattern")


@dataclass(frozen=True)
class Stage:
    """What was measured of a model: bytes on disk in its own format, processor time of a token in float32, loss."""

    name: str
    layers: int
    parameters: int
    bytes: int
    prefill_ms: float
    """Processor milliseconds for a token of a prompt."""
    decode_ms: float
    """Processor milliseconds for a token that is written."""
    loss: float
    """Mean -log p of the tokens to be learned in the held-out sessions, in nats."""


@dataclass(frozen=True)
class Pruned:
    """The model that came of it, the layers that were taken out (from 0) and the influence of each there was."""

    folder: Path
    dropped: tuple[int, ...]
    influence: tuple[float, ...]
    stages: tuple[Stage, ...]


def prune(
    loaded: LoadedModel,
    examples: Sequence[Example],
    holdout: Sequence[Example],
    layers: int,
    out: Path,
    recipe: Recipe,
    *,
    cache: Path,
    watch: Callable[[Progress], None] | None = None,
) -> Pruned:
    """Take `layers` layers out of a model, heal it by `recipe` on `examples`, and write it to the new folder `out`.

    `holdout` is what loss is measured on, before, after and healed. Raises WhetstoneError for a model that is not of
    the Llama family, a number of layers that it cannot spare, a method that is no LoRA, or a folder that exists.
    """
    base = Base.of(loaded)
    config = base.config()
    _check(base, config, holdout, layers, out, recipe)
    influence = block_influence(base, examples)
    dropped = sorted(sorted(range(len(influence)), key=lambda n: influence[n])[:layers])
    with tempfile.TemporaryDirectory(prefix="whetstone-prune-", dir=out.parent) as folder:
        cut = write_without(Path(folder) / "cut", base, dropped)
        shorter = load_model(str(cut), dtype="fp32", cache=cache)
        stages = [_measured("before", loaded, holdout), _measured("pruned", shorter, holdout)]
        adapter = train(
            Base.of(shorter), examples, recipe, Path(folder) / "healing", holdout=holdout, watch=watch
        ).folder
        weights = mapped_weights(cut)
        healed = merge(read_adapter(adapter, shorter.lineage, cache), weights)
        write_model(out, cut, {name: healed[name].to(weight.dtype) for name, weight in weights.items()})
    stages.append(_measured("healed", load_model(str(out), dtype="fp32", cache=cache), holdout))
    return Pruned(out, tuple(dropped), tuple(influence), tuple(stages))


def block_influence(base: Base, examples: Sequence[Example]) -> list[float]:
    """Of each layer: 1 - the mean cosine between what goes in and what comes out, over the tokens of some sessions."""
    import torch
    from torch.nn.functional import cosine_similarity

    config = base.config()
    network = PackedLlama(config, mapped_weights(base.folder), rank=0, scale=1.0, dtype=torch.float32)
    totals, tokens = [0.0] * config["num_hidden_layers"], 0
    for batch in batches(within(examples, INFLUENCE_TOKENS), INFLUENCE_TOKENS // 4):
        packed = pack(batch)
        before: Tensor | None = None
        for number, after in enumerate(network.states(packed), start=-1):
            if before is not None:
                totals[number] += float(cosine_similarity(before, after, dim=-1).sum())
            before = after
        tokens += packed.tokens
    return [1 - total / max(tokens, 1) for total in totals]


def write_without(folder: Path, base: Base, dropped: Sequence[int]) -> Path:
    """Write the model without these layers (from 0) to a new folder; returns it."""
    config = base.config()
    kept = [n for n in range(config["num_hidden_layers"]) if n not in dropped]
    places = {old: new for new, old in enumerate(kept)}
    weights: dict[str, Tensor] = {}
    for name, weight in mapped_weights(base.folder).items():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            if int(parts[2]) not in places:
                continue
            parts[2] = str(places[int(parts[2])])
        weights[".".join(parts)] = weight
    listed = {key: [config[key][n] for n in kept] for key in PER_LAYER if isinstance(config.get(key), list)}
    return write_model(folder, base.folder, weights, config={**config, **listed, "num_hidden_layers": len(kept)})


def _check(
    base: Base, config: Mapping[str, Any], holdout: Sequence[Example], layers: int, out: Path, recipe: Recipe
) -> None:
    if not trains(config):
        raise WhetstoneError(
            f"layers are taken out of models of the Llama family, and {base.spec} is none: use another"
        )
    if not 0 < layers < config["num_hidden_layers"]:
        raise WhetstoneError(
            f"{base.spec} has {config['num_hidden_layers']} layers, of which {layers} cannot go: take out at least one"
            " and leave at least one"
        )
    if recipe.method not in ("lora", "rslora"):
        raise WhetstoneError(f"healing is by lora or rslora, which can be merged exactly, not by {recipe.method}")
    if not holdout:
        raise WhetstoneError("nothing is held out to measure with: give a dataset with more goals, or --holdout-share")
    if out.exists():
        raise WhetstoneError(f"{out} is there already: name a folder that does not exist yet")
    out.parent.mkdir(parents=True, exist_ok=True)


def _measured(name: str, loaded: LoadedModel, holdout: Sequence[Example]) -> Stage:
    from agent.learning.objectives import mean_loss

    base = Base.of(loaded)
    recipe = Recipe(rank=1, dtype="fp32", batch_tokens=2000)
    weights = mapped_weights(base.folder)
    prefill, decode = _speed(loaded, holdout[0])
    import torch

    with torch.no_grad():
        loss = mean_loss(PackedLearner(base, recipe), within(holdout, HELDOUT_TOKENS), recipe.batch_tokens)
    parameters = sum(weight.numel() for weight in weights.values())
    return Stage(name, loaded.model.layers, parameters, size(base.folder), prefill, decode, loss)


def _speed(loaded: LoadedModel, example: Example) -> tuple[float, float]:
    """Processor milliseconds of a token: of a prompt read in one pass, and of one after another. Medians."""
    import torch

    ids = list(example.ids[:256])
    prefills: list[float] = []
    decodes: list[float] = []
    with torch.inference_mode():
        for _ in range(ROUNDS):
            cache = loaded.model.new_cache()
            began = time.process_time()
            loaded.model.forward([Row(cache, ids)])
            prefills.append((time.process_time() - began) / len(ids))
            cache.ids += ids
            began = time.process_time()
            for _ in range(DECODED):
                loaded.model.forward([Row(cache, ids[:1])])
                cache.ids += ids[:1]
            decodes.append((time.process_time() - began) / DECODED)
    return 1000 * statistics.median(prefills), 1000 * statistics.median(decodes)


def table(pruned: Pruned) -> str:
    """The stages side by side, as text."""
    head = f"{'':8}{'layers':>7}{'weights':>10}{'on disk':>10}{'prompt':>12}{'writing':>12}{'loss':>8}"
    rows = [
        f"{s.name:8}{s.layers:>7}{s.parameters / 1e6:>8.1f} M{s.bytes / 2**20:>7.0f} MB{s.prefill_ms:>9.2f} ms"
        f"{s.decode_ms:>9.1f} ms{s.loss:>8.3f}"
        for s in pruned.stages
    ]
    gone = ", ".join(f"{n} ({pruned.influence[n]:.3f})" for n in pruned.dropped)
    return "\n".join([head, *rows, f"taken out, with their influence: {gone}"])
