"""The training loop: AdamW, warm-up and cosine, early stopping, checkpoints.

    train(Base.of(load_model("starter", cache=cache)), examples, Recipe(rank=16), folder)

The same examples, recipe and number of threads give the same adapter, byte for byte, whether or not the training was
killed and went on in between. (A time limit fits the learning rate to the clock, and so gives this up.)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import CARD, write_card
from agent.engine.digests import write_whole
from agent.learning.checkpoint import Checkpoint, read_checkpoint, remove_checkpoint, write_checkpoint
from agent.learning.curves import Point, draw_curve, write_curve
from agent.learning.examples import Example
from agent.learning.learner import Base, Learner, open_learner, shares
from agent.learning.recipe import PREFERENCE, Recipe
from agent.learning.schedule import Source, Step, pairs, schedule
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch

CURVE, PICTURE = "curve.jsonl", "curve.png"
CHECKPOINT_SECONDS = 120.0
HELDOUT_TOKENS = 15_000
"""Tokens of held-out sessions that one measurement reads at most."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands, told after each step."""

    point: Point
    steps: int
    tokens_per_second: float
    memory: int
    """Bytes this process holds."""
    seconds_left: float


@dataclass(frozen=True)
class Trained:
    """What came of a training. `stopped` says why it ended: `done`, `early` or `time`."""

    folder: Path
    points: tuple[Point, ...]
    stopped: str
    best: float | None
    """Lowest held-out loss; the adapter is the one of that step."""


@dataclass
class _State:
    """What changes from step to step, and is kept in checkpoints."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best: float | None = None
    worse: int = 0
    """Measurements since the best."""
    stopped: str = ""
    points: list[Point] = field(default_factory=list[Point])


def train(
    base: Base,
    examples: Sequence[Example],
    recipe: Recipe,
    out: Path,
    *,
    holdout: Sequence[Example] = (),
    replay: Sequence[Example] = (),
    rejected: Sequence[Example] = (),
    resume: bool = False,
    watch: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    **card: Any,
) -> Trained:
    """Train an adapter for `base` on `examples` and save it in the folder `out`.

    `replay` are sessions of other families, or raw text, whose mean loss is added with `recipe.replay_weight`;
    `rejected` are what `dpo` and `spin` pair with `examples` of the same goal;
    `holdout` decides when to stop and which step's weights are saved; `resume` goes on from a checkpoint in `out`, if
    there is one. `card` goes into the adapter's card beside the recipe, the sessions and the losses. Raises
    WhetstoneError, before it starts, if the base does not fit into memory, the method is not for it, or the
    checkpoint is of another training.
    """
    import torch

    from agent.learning.memory import attention_weights_bytes, check_memory, keep_freed_memory, needed_bytes

    sources = _sources(recipe, examples, replay, rejected)
    everything = [example for source in sources for example in source.everything()]
    roomy = check_memory(base, recipe, everything)
    expected = needed_bytes(base, recipe, everything)
    expected += attention_weights_bytes(base, recipe, everything) if roomy else 0
    keep_freed_memory()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    steps = schedule(sources, recipe, share=shares(base, recipe))
    learner = open_learner(base, recipe, steps=len(steps), keep_weights=roomy)
    training = _Training(learner, recipe, steps, holdout, out, _identity(base, recipe, sources, holdout))
    if resume and recipe.method == "adalora":
        raise WhetstoneError("adalora cannot be resumed, its rank allocation is not kept: train again without --resume")
    if resume:
        training.load()
    training.run(watch, checkpoint_seconds, 1.5 * expected)
    return training.finish(base, sources, card)


def _sources(
    recipe: Recipe, examples: Sequence[Example], replay: Sequence[Example], rejected: Sequence[Example]
) -> list[Source]:
    if recipe.objective in PREFERENCE and not rejected:
        raise WhetstoneError(f"{recipe.objective} learns from pairs: give the other sessions with --rejected")
    if recipe.objective == "adaptive" and not replay:
        raise WhetstoneError("adaptive learns from raw text beside the sessions: give files with --text")
    if recipe.objective == "augment" and not any(example.variant for example in examples):
        raise WhetstoneError(
            "augment learns from sessions that are told in other words too, and this dataset has none: make it again"
            " with `dataset build --augment 2`"
        )
    task = pairs(examples, rejected) if recipe.objective in PREFERENCE else Source("task", examples)
    return [task, *([Source("replay", replay, recipe.replay_weight)] if replay else [])]


class _Training:
    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        steps: Sequence[Step],
        holdout: Sequence[Example],
        out: Path,
        identity: str,
    ) -> None:
        import torch

        self._learner, self._recipe, self._steps, self._out, self._identity = learner, recipe, steps, out, identity
        self._holdout = _within(holdout, HELDOUT_TOKENS)
        self._state = _State()
        self._parameters = learner.parameters
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._best: dict[str, torch.Tensor] = {}
        self._every = max(1, len(steps) // recipe.evaluations) if recipe.evaluations else 0

    def run(self, watch: Callable[[Progress], None] | None, checkpoint_seconds: float, held_at_most: float) -> None:
        from agent.learning.memory import give_back_freed_memory, held_bytes

        state, before = self._state, self._state.seconds
        began = saved = time.monotonic()
        while state.step < len(self._steps) and not state.stopped:
            share = self._share_done(state.seconds)
            rate = self._recipe.learning_rate * _factor(share, self._recipe.warmup)
            turn_began, step = time.monotonic(), self._steps[state.step]
            loss, divergence = self._one_step(step, rate)
            state.step += 1
            tokens = sum(len(example.ids) for turn in step for batch in turn.batches for example in batch)
            state.tokens += tokens
            speed = tokens / max(time.monotonic() - turn_began, 1e-9)
            state.seconds = before + time.monotonic() - began
            last = self._share_done(state.seconds) >= 1
            if last and state.step < len(self._steps):
                state.stopped = "time"
            heldout = self._measure() if last or (self._every and state.step % self._every == 0) else None
            point = Point(state.step, loss, rate, state.tokens, round(state.seconds, 3), heldout, divergence)
            state.points.append(point)
            if time.monotonic() - saved >= checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if held_bytes() > held_at_most:
                give_back_freed_memory()
            if watch is not None:
                share = self._share_done(state.seconds)
                left = max(0.0, state.seconds * (1 - share) / share)
                watch(Progress(point, len(self._steps), speed, held_bytes(), left))
        state.stopped = state.stopped or "done"

    def _one_step(self, step: Step, rate: float) -> tuple[float, float | None]:
        """The mean loss of the task before the step, and the mean KL to the base if the recipe has it."""
        import torch

        from agent.learning.objectives import accumulate

        learner, recipe = self._learner, self._recipe
        self._optimizer.zero_grad(set_to_none=True)
        loss, divergence = accumulate(learner, step, recipe)
        if not math.isfinite(loss):
            raise WhetstoneError(
                f"the loss at step {self._state.step + 1} is not a number: train again with a lower learning rate"
                f" than {recipe.learning_rate:g}"
            )
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        learner.after_step(self._state.step)
        learner.refresh()
        return loss, divergence

    def _measure(self) -> float | None:
        """The held-out loss, if there is anything to measure it on. Keeps the best parameters."""
        import torch

        from agent.learning.objectives import mean_loss

        state = self._state
        if not self._holdout or not self._every:
            return None
        with torch.no_grad():
            heldout = mean_loss(self._learner, self._holdout, self._recipe.batch_tokens)
        if state.best is None or heldout < state.best:
            state.best, state.worse = heldout, 0
            self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        else:
            state.worse += 1
            if self._recipe.patience and state.worse >= self._recipe.patience:
                state.stopped = state.stopped or "early"
        return heldout

    def _share_done(self, seconds: float) -> float:
        share = self._state.step / len(self._steps)
        limit = self._recipe.max_minutes * 60
        return max(share, seconds / limit) if limit else share

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"parameter.{name}": p.detach() for name, p in self._parameters.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        write_checkpoint(self._out, Checkpoint({**asdict(self._state), "identity": self._identity}, tensors))

    def load(self) -> None:
        """Go on from the checkpoint, if there is one. Raises WhetstoneError if it is of another training."""
        import torch

        found = read_checkpoint(self._out)
        if found is None:
            return
        if found.state["identity"] != self._identity:
            raise WhetstoneError(
                f"the checkpoint in {self._out} is of another training (other base, sessions or recipe):"
                " give the same again, or train into another folder"
            )
        state: dict[str, Any] = {k: v for k, v in found.state.items() if k in _State.__dataclass_fields__}
        state["points"] = [Point(**point) for point in state["points"]]
        self._state = _State(**state)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(found.tensors[f"parameter.{name}"])
                if f"best.{name}" in found.tensors:
                    self._best[name] = found.tensors[f"best.{name}"].to(parameter.device)
                kept = {key: found.tensors.get(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
                moments = {key: value for key, value in kept.items() if value is not None}
                if moments:
                    places = {k: v if k == "step" else v.to(parameter.device) for k, v in moments.items()}
                    self._optimizer.state[parameter] = places
        self._learner.refresh()

    def finish(self, base: Base, sources: Sequence[Source], card: dict[str, Any]) -> Trained:
        """Save the adapter of the best measured step, or of the last, its card and its curve."""
        import torch

        state = self._state
        if self._best:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(self._best[name])
            self._learner.refresh()
        self._out.mkdir(parents=True, exist_ok=True)
        self._learner.save(self._out)
        sessions = {s.name: [[e.session, e.digest] for e in s.everything()] for s in sources}
        losses = {"last": state.points[-1].loss if state.points else None, "heldout": state.best}
        facts: dict[str, Any] = {
            "base": base.spec,
            "recipe": self._recipe.card(),
            "sessions": sessions,
            "data_sha256": self._identity,
            "training": {"steps": state.step, "tokens": state.tokens, "stopped": state.stopped, "loss": losses},
            **card,
        }
        if self._recipe.method == "full":  # a model of its own, which belongs to no other
            write_whole(self._out / CARD, json.dumps({"trained_from": asdict(base.lineage), **facts}, indent=2))
        else:
            write_card(self._out, base.lineage, **facts)
        remove_checkpoint(self._out)
        write_curve(state.points, self._out / CURVE)
        draw_curve(state.points, self._out / PICTURE)
        return Trained(self._out, tuple(state.points), state.stopped, state.best)


def _factor(share: float, warmup: float) -> float:
    """Of the learning rate: rises to 1 over the first `warmup` of the steps, then falls along a cosine to 0."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def _identity(base: Base, recipe: Recipe, sources: Sequence[Source], holdout: Sequence[Example]) -> str:
    """sha256 over everything that decides the result."""
    # Neither changes what is computed, so a resumed training may choose them anew.
    digest = sha256(repr(replace(recipe, threads=0, max_minutes=0.0)).encode())
    digest.update(repr(base.lineage).encode())
    for source in (*sources, Source("holdout", holdout)):
        digest.update(source.name.encode())
        for example in source.everything():
            digest.update(repr((example.ids, example.loss, example.weight, example.shared)).encode())
    return digest.hexdigest()


def _within(examples: Sequence[Example], tokens: int) -> list[Example]:
    found: list[Example] = []
    for example in examples:
        tokens -= len(example.ids)
        if tokens < 0 and found:
            break
        found.append(example)
    return found
