"""What is minimised. Every objective runs on every kind of learner, and adds a step's gradients to its parameters.

* `sft`: mean of -log p over a session's own tokens. With replay and a KL term, each a mean of its own:
  L = L_task + lambda * L_replay + beta * KL(base || model).
* `adaptive`: the same, where what is replayed is raw text: L = L_task + lambda * L_pretrain.
* `adversarial`: the loss and the loss under the worst small step of the embeddings (fast gradient method, Miyato et
  al. 2017), which makes a model less sensitive to wording.
* `augment`: `sft` on a dataset that tells its sessions in other words too (`agent.learning.augmenting`); one that does
  not is refused.
* `dpo`: -log sigmoid(beta * (gain of the chosen - gain of the rejected)), gain = log p - log p of the base, summed over
  a session (Rafailov et al. 2023), plus `anchor` times the chosen session's mean -log p, without which DPO is known to
  make both less likely.
* `spin`: the same without anchor; rejected are the model's own samples (Chen et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding, logsigmoid

from agent.learning.likelihood import divergence, log_likelihood
from agent.learning.packing import batches, pack
from agent.learning.recipe import PREFERENCE

if TYPE_CHECKING:
    from torch import Tensor

    from agent.learning.examples import Example
    from agent.learning.learner import Learner
    from agent.learning.packing import Pack
    from agent.learning.recipe import Recipe
    from agent.learning.schedule import Step


def accumulate(learner: Learner, step: Step, recipe: Recipe) -> tuple[float, float | None]:
    """Add a step's gradients to the parameters; returns the task's mean loss and the mean KL to the base, if any."""
    task = kept = 0.0
    close_to_base = step[-1].source if recipe.kl_weight else None
    for turn in step:
        packs = [pack(batch, share=learner.shares) for batch in turn.batches]
        main = turn is step[0]
        paired = main and recipe.objective in PREFERENCE  # a chosen session, a rejected one, and so on
        whole = max(sum(_size(packed, paired) for packed in packs), 1e-9)
        for packed in packs:
            packed = packed.to(learner.device)
            if paired:
                loss = preference_loss(learner, packed, recipe) / whole
            elif main and recipe.objective == "adversarial":
                task += _adversarial(learner, packed, recipe, whole)
                continue
            else:
                hidden = learner.hidden(packed)
                loss = likelihood_loss(learner, packed, hidden) / whole
                if turn.source is close_to_base:
                    far = divergence_loss(learner, packed, hidden) / whole
                    kept += float(far.detach())
                    task += float(loss.detach()) if main else 0.0
                    (loss * turn.source.weight + recipe.kl_weight * far).backward()
                    continue
            task += float(loss.detach()) if main else 0.0
            (loss * turn.source.weight).backward()
    penalty = learner.penalty()
    if penalty is not None:
        penalty.backward()
    return task, kept if recipe.kl_weight else None


def likelihood_loss(learner: Learner, pack: Pack, hidden: Tensor) -> Tensor:
    """Sum over the targets of weight * -log p."""
    return -(log_likelihood(hidden, learner.head, pack.labels) * pack.weights).sum()


def divergence_loss(learner: Learner, pack: Pack, hidden: Tensor) -> Tensor:
    """Sum over the targets of weight * KL(base || model), in nats."""
    with torch.no_grad():
        reference = learner.hidden(pack, adapted=False)
    return (divergence(hidden, reference, learner.head) * pack.weights).sum()


def preference_loss(learner: Learner, pack: Pack, recipe: Recipe) -> Tensor:
    """Sum over the pairs of a pack of `dpo`'s or `spin`'s loss."""
    with torch.no_grad():
        before = log_likelihood(learner.hidden(pack, adapted=False), learner.head, pack.labels)
    now = log_likelihood(learner.hidden(pack), learner.head, pack.labels)
    sessions = len(pack.examples)
    gains = torch.zeros(sessions, device=now.device).index_add(0, pack.owner, now - before)
    loss = -logsigmoid(recipe.preference * (gains[0::2] - gains[1::2])).sum()
    if recipe.objective == "spin" or not recipe.anchor:
        return loss
    own = torch.zeros(sessions, device=now.device).index_add(0, pack.owner, now)
    counts = torch.bincount(pack.owner, minlength=sessions).clamp_(min=1)
    return loss - recipe.anchor * (own / counts)[0::2].sum()


def mean_loss(learner: Learner, examples: Sequence[Example], batch_tokens: int) -> float:
    """Mean of weight * -log p per token with loss, in nats."""
    total = weight = 0.0
    for batch in batches(examples, batch_tokens, share=learner.shares):
        packed = pack(batch, share=learner.shares).to(learner.device)
        total += float(likelihood_loss(learner, packed, learner.hidden(packed)))
        weight += float(packed.weights.sum())
    return total / max(weight, 1e-9)


def worst_step(gradient: Tensor, pack: Pack, length: float) -> Tensor:
    """The perturbation of the embeddings, [tokens, d], that raises the loss most: each session's is `length` long."""
    step = torch.zeros_like(gradient)
    for segment in pack.segments:
        own = slice(segment.start, segment.start + segment.count)
        step[own] = gradient[own] * (length / gradient[own].norm().clamp(min=1e-12))
    return step


def _adversarial(learner: Learner, pack: Pack, recipe: Recipe, whole: float) -> float:
    """Half the gradient of the loss, half of that under the worst step; returns the loss without it."""
    embeds = embedding(pack.ids, learner.embedding)
    zero = torch.zeros_like(embeds, dtype=torch.float32).requires_grad_()
    loss = likelihood_loss(learner, pack, learner.hidden(pack, perturbation=zero)) / whole
    (loss / 2).backward()
    assert zero.grad is not None
    length = recipe.epsilon * float(embeds.float().norm(dim=-1).mean())
    step = worst_step(zero.grad, pack, length)
    (likelihood_loss(learner, pack, learner.hidden(pack, perturbation=step)) / whole / 2).backward()
    return float(loss.detach())


def _size(pack: Pack, paired: bool) -> float:
    return len(pack.examples) / 2 if paired else float(pack.weights.sum())
