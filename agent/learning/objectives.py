"""What is minimised, as functions of hidden states; every one runs on every kind of learner.

`sft` is the mean negative log-likelihood of a session's own tokens. Sources are added up with their weights, each as
a mean of its own: L = L_task + lambda * L_replay + beta * KL(base || model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from agent.learning.likelihood import divergence, log_likelihood
from agent.learning.packing import batches, pack

if TYPE_CHECKING:
    from torch import Tensor

    from agent.learning.examples import Example
    from agent.learning.learner import Learner
    from agent.learning.packing import Pack
    from agent.learning.recipe import Recipe
    from agent.learning.schedule import Step


def likelihood_loss(learner: Learner, pack: Pack, hidden: Tensor) -> Tensor:
    """Sum over the targets of weight * -log p."""
    return -(log_likelihood(hidden, learner.head, pack.labels) * pack.weights).sum()


def divergence_loss(learner: Learner, pack: Pack, hidden: Tensor) -> Tensor:
    """Sum over the targets of weight * KL(base || model), in nats."""
    with torch.no_grad():
        reference = learner.hidden(pack, adapted=False)
    return (divergence(hidden, reference, learner.head) * pack.weights).sum()


def mean_loss(learner: Learner, examples: Sequence[Example], batch_tokens: int) -> float:
    """Mean of weight * -log p per token with loss, in nats."""
    total = weight = 0.0
    for batch in batches(examples, batch_tokens, share=learner.shares):
        packed = pack(batch, share=learner.shares).to(learner.device)
        total += float(likelihood_loss(learner, packed, learner.hidden(packed)))
        weight += float(packed.weights.sum())
    return total / max(weight, 1e-9)


def accumulate(learner: Learner, step: Step, recipe: Recipe) -> tuple[float, float | None]:
    """Add a step's gradients to the parameters; returns the task's mean loss and the mean KL to the base, if any."""
    task = 0.0
    kept = 0.0
    close_to_base = step[-1].source if recipe.kl_weight else None
    for turn in step:
        packs = [pack(batch, share=learner.shares) for batch in turn.batches]
        whole = max(sum(float(packed.weights.sum()) for packed in packs), 1e-9)
        for packed in packs:
            packed = packed.to(learner.device)
            hidden = learner.hidden(packed)
            loss = likelihood_loss(learner, packed, hidden) / whole
            if turn is step[0]:
                task += float(loss.detach())
            loss = loss * turn.source.weight
            if turn.source is close_to_base:
                divergence = divergence_loss(learner, packed, hidden) / whole
                kept += float(divergence.detach())
                loss = loss + recipe.kl_weight * divergence
            loss.backward()
    penalty = learner.penalty()
    if penalty is not None:
        penalty.backward()
    return task, kept if recipe.kl_weight else None
