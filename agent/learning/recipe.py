"""How an adapter is trained: every choice that decides its weights, recorded in its card."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from agent.types import WhetstoneError

Method = Literal["lora", "rslora", "dora", "adalora", "prefix", "prompt", "ia3", "full"]
ObjectiveName = Literal["sft", "adaptive", "adversarial", "augment", "dpo", "spin"]
METHODS: tuple[str, ...] = get_args(Method)
OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
DTYPES = ("auto", "fp32", "bf16")
_NOT_NEGATIVE = (
    "layers", "weight_decay", "replay_weight", "kl_weight", "preference", "anchor", "evaluations", "patience",
    "threads", "max_minutes",
)  # fmt: skip
PREFERENCE = ("dpo", "spin")
"""Objectives on pairs of sessions, one chosen and one rejected."""


@dataclass(frozen=True)
class Recipe:
    """Defaults suit a small model and a few hundred to a few thousand sessions on a CPU."""

    method: Method = "lora"
    objective: ObjectiveName = "sft"
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    """Linear layers with an adapter; empty: all of them."""
    layers: int = 0
    """Adapt the last this many layers; 0: all."""
    learning_rate: float = 1e-3
    epochs: float = 3.0
    batch_tokens: int = 6000
    """Tokens computed at a time; decides the memory needed."""
    accumulate: int = 1
    """Micro-batches of an optimizer step."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; it falls along a cosine after."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    replay_weight: float = 1.0
    """lambda: weight of the loss on replayed sessions, or of the raw text of `adaptive`."""
    kl_weight: float = 0.0
    """beta: weight of KL(base || model), on replayed sessions or raw text if there are any, else on the task."""
    epsilon: float = 1.0
    """adversarial: length of the perturbation, in mean norms of a token's embedding."""
    preference: float = 0.1
    """dpo, spin: beta of the preference loss."""
    anchor: float = 0.5
    """dpo, spin: weight of the loss on the chosen session."""
    evaluations: int = 8
    """Measurements on held-out sessions in the course of the training."""
    patience: int = 3
    """Stop after this many measurements without a new best; 0: never."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    threads: int = 0
    """0: as torch has it."""
    seed: int = 0
    max_minutes: float = 0.0
    """Train no longer than this, with the learning rate's fall fitted to it; 0: no limit."""
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise WhetstoneError(f"there is no method {self.method!r}: choose one of {', '.join(METHODS)}")
        if self.objective not in OBJECTIVES:
            raise WhetstoneError(f"there is no objective {self.objective!r}: choose one of {', '.join(OBJECTIVES)}")
        if self.dtype not in DTYPES:
            raise WhetstoneError(f"there is no training in {self.dtype!r}: choose one of {', '.join(DTYPES)}")
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise WhetstoneError(f"{name.replace('_', ' ')} must be a finite number, not {value}")
        positive = ("rank", "alpha", "learning_rate", "epochs", "batch_tokens", "accumulate", "clip", "epsilon")
        for name in positive:
            if getattr(self, name) <= 0:
                raise WhetstoneError(f"{name.replace('_', ' ')} must be above 0, not {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise WhetstoneError(f"{name.replace('_', ' ')} must not be below 0, it is {getattr(self, name)}")
        if self.layers and self.method in ("ia3", "prefix", "prompt", "full"):
            raise WhetstoneError(f"{self.method} adapts the whole model: leave out --layers")
        if self.targets and self.method in ("prefix", "prompt", "full"):
            raise WhetstoneError(f"{self.method} has no layers to name: leave out --targets")
        if not 0 <= self.warmup < 1:
            raise WhetstoneError(f"warmup is a share of the steps, from 0 to below 1, not {self.warmup}")

    def card(self) -> dict[str, Any]:
        """All choices as JSON, for the adapter's card."""
        return asdict(self)

    @classmethod
    def of(cls, card: dict[str, Any]) -> Recipe:
        """The recipe that a card records; entries of later versions are ignored."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in card.items() if name in known}
        values["targets"] = tuple(values.get("targets", ()))
        return cls(**values)
