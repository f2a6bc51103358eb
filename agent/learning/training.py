"""A training on its way: one step after another, measured, watched, and kept on disk to go on after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.learning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from agent.learning.curves import Point
from agent.learning.examples import Example, within
from agent.learning.learner import Learner
from agent.learning.recipe import Recipe
from agent.learning.schedule import Step
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch

_KEPT = "kept."
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


@dataclass
class State:
    """What changes from step to step, and is kept in checkpoints."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best: float | None = None
    worse: int = 0
    """Measurements since the best."""
    stopped: str = ""
    points: list[Point] = field(default_factory=list[Point])


class Training:
    """`state` is what changes from step to step; `identity` is what a checkpoint must have to be of this training."""

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
        self._holdout = within(holdout, HELDOUT_TOKENS)
        self.state = State()
        self._parameters = learner.parameters
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._best: dict[str, torch.Tensor] = {}
        self._every = max(1, len(steps) // recipe.evaluations) if recipe.evaluations else 0

    def run(self, watch: Callable[[Progress], None] | None, checkpoint_seconds: float, held_at_most: float) -> None:
        from agent.learning.memory import give_back_freed_memory, held_bytes

        state, before = self.state, self.state.seconds
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
                f"the loss at step {self.state.step + 1} is not a number: train again with a lower learning rate"
                f" than {recipe.learning_rate:g}"
            )
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        learner.after_step(self.state.step)
        learner.refresh()
        return loss, divergence

    def _measure(self) -> float | None:
        """The held-out loss, if there is anything to measure it on. Keeps the best parameters."""
        import torch

        from agent.learning.objectives import mean_loss

        state = self.state
        if not self._holdout or not self._every:
            return None
        with torch.no_grad():
            heldout = mean_loss(self._learner, self._holdout, self._recipe.batch_tokens)
        # AdaLoRA's ranks are those of its last step, which weights of an earlier one do not fit.
        if state.best is None or heldout < state.best or self._recipe.method == "adalora":
            state.best, state.worse = heldout, 0
            self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        else:
            state.worse += 1
            if self._recipe.patience and state.worse >= self._recipe.patience:
                state.stopped = state.stopped or "early"
        return heldout

    def _share_done(self, seconds: float) -> float:
        share = self.state.step / len(self._steps)
        limit = self._recipe.max_minutes * 60
        return max(share, seconds / limit) if limit else share

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"parameter.{name}": p.detach() for name, p in self._parameters.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        tensors |= {f"{_KEPT}{name}": tensor for name, tensor in self._learner.kept().items()}
        write_checkpoint(self._out, Checkpoint({**asdict(self.state), "identity": self._identity}, tensors))

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
        state: dict[str, Any] = {k: v for k, v in found.state.items() if k in State.__dataclass_fields__}
        state["points"] = [Point(**point) for point in state["points"]]
        self.state = State(**state)
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
        kept = {name.removeprefix(_KEPT): t for name, t in found.tensors.items() if name.startswith(_KEPT)}
        self._learner.restore(kept)
        self._learner.refresh()

    def use_best(self) -> None:
        """Take the parameters of the best measured step, if there was a measurement."""
        import torch

        if not self._best:
            return
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._best[name])
        self._learner.refresh()


def _factor(share: float, warmup: float) -> float:
    """Of the learning rate: rises to 1 over the first `warmup` of the steps, then falls along a cosine to 0."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
