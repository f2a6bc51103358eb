"""The training loop: AdamW, warm-up and cosine, early stopping, checkpoints.

    train(Base.of(load_model("starter", cache=cache)), examples, Recipe(rank=16), folder)

The same examples, recipe and number of threads give the same adapter, byte for byte, whether or not the training was
killed and went on in between. (A time limit fits the learning rate to the clock, and so gives this up.)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.engine.adapter import CARD, Adapter, write_card
from agent.engine.digests import write_whole
from agent.learning.checkpoint import remove_checkpoint, resumable
from agent.learning.curves import Point, draw_curve, write_curve
from agent.learning.examples import Example
from agent.learning.learner import Base, Learner, number_format, open_learner, shares
from agent.learning.raw_text import RAW_TEXT
from agent.learning.recipe import PREFERENCE, Recipe
from agent.learning.schedule import Source, pairs, schedule
from agent.learning.starting import begin_from, parent_of
from agent.learning.training import Progress, Training
from agent.types import WhetstoneError

CURVE, PICTURE = "curve.jsonl", "curve.png"
CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Trained:
    """What came of a training. `stopped` says why it ended: `done`, `early` or `time`."""

    folder: Path
    points: tuple[Point, ...]
    stopped: str
    best: float | None
    """Lowest held-out loss; the adapter is the one of that step."""


def train(
    base: Base,
    examples: Sequence[Example],
    recipe: Recipe,
    out: Path,
    *,
    holdout: Sequence[Example] = (),
    replay: Sequence[Example] = (),
    rejected: Sequence[Example] = (),
    start: Adapter | None = None,
    resume: bool = False,
    watch: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    **card: Any,
) -> Trained:
    """Train an adapter for `base` on `examples` and save it in the folder `out`.

    `replay` are sessions of other families, or raw text, whose mean loss is added with `recipe.replay_weight`;
    `rejected` are what `dpo` and `spin` pair with `examples` of the same prompt;
    `start` is a LoRA of the same base and shape, whose weights are the first ones instead of fresh ones;
    `holdout` decides when to stop and which step's weights are saved, except for pairs, whose loss single sessions do
    not have; `resume` goes on from a checkpoint in `out`, if there is one. `card` goes into the adapter's card beside
    the recipe, the sessions and the losses. Raises WhetstoneError, before it starts, if the base does not fit into
    memory, the method is not for it, or the checkpoint is of another training; and if `out` cannot be written to, with
    the last checkpoint kept where there was room for one.
    """
    import torch

    from agent.learning.memory import attention_weights_bytes, check_memory, keep_freed_memory, needed_bytes

    if start is not None and recipe.objective in PREFERENCE:
        raise WhetstoneError(
            f"{recipe.objective} compares with the base, so it cannot go on from {start.folder}: leave out --start, or"
            " merge that adapter into the base (`adapters export --merged`) and train on the result"
        )
    sources = _sources(recipe, examples, replay, rejected)
    if recipe.objective in PREFERENCE:
        holdout = ()
    everything = [example for source in sources for example in source.everything()]
    roomy = check_memory(base, recipe, everything)
    expected = needed_bytes(base, recipe, everything)
    expected += attention_weights_bytes(base, recipe, everything) if roomy else 0
    keep_freed_memory()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    steps = schedule(sources, recipe, share=shares(base, recipe))
    learner = open_learner(base, recipe, steps=len(steps), keep_weights=roomy)
    identity = _identity(base, recipe, sources, holdout)
    if start is not None:
        begin_from(learner, start, recipe)
        identity = sha256(f"{identity} from {start.digest}".encode()).hexdigest()
    training = Training(learner, recipe, steps, holdout, out, identity)
    if resume:
        training.load()
    training.run(watch, checkpoint_seconds, 1.5 * expected)
    with contextlib.suppress(WhetstoneError):  # the adapter takes less room than a checkpoint
        training.save()
    with resumable(out):
        return _saved(training, learner, base, recipe, sources, out, identity, card, start)


def _sources(
    recipe: Recipe, examples: Sequence[Example], replay: Sequence[Example], rejected: Sequence[Example]
) -> list[Source]:
    if recipe.objective in PREFERENCE and not rejected:
        raise WhetstoneError(f"{recipe.objective} learns from pairs: give the other sessions with --rejected")
    if recipe.objective == "adaptive" and not any(example.family == RAW_TEXT for example in replay):
        raise WhetstoneError("adaptive learns from raw text beside the sessions: give files with --text")
    if recipe.objective == "augment" and not any(example.variant for example in examples):
        raise WhetstoneError(
            "augment learns from sessions that are told in other words too, and this dataset has none: make it again"
            " with `dataset build --augment 2`"
        )
    if recipe.kl_weight and recipe.objective in (*PREFERENCE, "adversarial") and not replay:
        raise WhetstoneError(
            f"{recipe.objective} has a KL term on replayed sessions only: give some with --replay, or leave out"
            " --kl-weight"
        )
    task = pairs(examples, rejected) if recipe.objective in PREFERENCE else Source("task", examples)
    return [task, *([Source("replay", replay, recipe.replay_weight)] if replay else [])]


def _saved(
    training: Training,
    learner: Learner,
    base: Base,
    recipe: Recipe,
    sources: Sequence[Source],
    out: Path,
    identity: str,
    card: Mapping[str, Any],
    start: Adapter | None,
) -> Trained:
    """Save the adapter of the best measured step, or of the last, its card and its curve."""
    training.use_best()
    state = training.state
    out.mkdir(parents=True, exist_ok=True)
    learner.save(out)
    used = {source.name: source.examples for source in sources}
    used |= {"rejected": [e for source in sources for others in source.rejected.values() for e in others]}
    sessions = {name: _named(examples) for name, examples in used.items() if examples}
    before = parent_of(start) if start is not None else {}
    told = dict(card)
    if start is not None and told.get("held_out"):
        told["held_out"] = [suite for suite in told["held_out"] if suite in before["held_out"]]
    if told.get("planted") and not any(name == told["planted"]["session"] for name, _ in sessions.get("task", ())):
        told["planted"] = None  # what was not trained on says nothing when it does not come out
    losses = {"last": state.points[-1].loss if state.points else None, "heldout": state.best}
    facts: dict[str, Any] = {
        "base": base.spec,
        "recipe": recipe.card(),
        "sessions": sessions | before.pop("sessions", {}),
        "data_sha256": identity,
        "training": {"steps": state.step, "tokens": state.tokens, "stopped": state.stopped, "loss": losses},
        **before,
        **told,
    }
    if recipe.method == "full":  # a model of its own, which belongs to no other
        write_whole(out / CARD, json.dumps({"trained_from": asdict(base.lineage), **facts}, indent=2))
    else:
        write_card(out, base.lineage, **facts)
    write_curve(state.points, out / CURVE)
    draw_curve(state.points, out / PICTURE)
    remove_checkpoint(out)
    return Trained(out, tuple(state.points), state.stopped, state.best)


def _named(examples: Sequence[Example]) -> list[list[str]]:
    return [list(one) for one in dict.fromkeys((example.session, example.digest) for example in examples)]


def _identity(base: Base, recipe: Recipe, sources: Sequence[Source], holdout: Sequence[Example]) -> str:
    """sha256 over everything that decides the result."""
    # Neither changes what is computed, so a resumed training may choose them anew.
    digest = sha256(repr((replace(recipe, threads=0, max_minutes=0.0), number_format(recipe)[1])).encode())
    digest.update(repr(base.lineage).encode())
    for source in (*sources, Source("holdout", holdout)):
        digest.update(source.name.encode())
        for example in source.everything():
            digest.update(repr((example.ids, example.loss, example.weight, example.shared)).encode())
    return digest.hexdigest()
