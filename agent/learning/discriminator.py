"""A small classifier that tells verified sessions from failed ones, by what the base model makes of them.

A session is the mean and the last of the base's hidden states before its own tokens; the classifier is a logistic
regression on that. It ranks the sessions of a goal, and weighs the sessions of a dataset. What it says is a
guess: its precision, recall and F1 on goals it has not seen stand in its card.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engine.adapter import Lineage
from agent.engine.digests import write_whole
from agent.learning.examples import Example
from agent.learning.packing import batches, input_length, pack
from agent.learning.recipe import Recipe
from agent.learning.schedule import split_by_goal
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

    from agent.learning.learner import Base, Learner

WEIGHTS, CARD = "discriminator.safetensors", "discriminator.json"
FEWEST = 10
"""Sessions of either kind without which there is nothing to learn or to measure."""
PENALTY = 1e-2
"""Of the squared weights, per session: there are about a thousand features and few sessions."""


@dataclass(frozen=True)
class Report:
    """On held-out goals. `base_rate` is the share of verified sessions among them: the precision of saying yes."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    base_rate: float
    trained_on: int
    measured_on: int

    def text(self) -> str:
        """The figures in words."""
        return (
            f"precision {self.precision:.2f} (saying yes always: {self.base_rate:.2f}), recall {self.recall:.2f},"
            f" F1 {self.f1:.2f} on {self.measured_on} sessions of goals it has not seen"
        )


@dataclass(frozen=True)
class Discriminator:
    """A trained classifier. `weights` is [2 d], applied to features less `mean` over `deviation`."""

    base: Base
    weights: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor

    def score(self, examples: Sequence[Example], recipe: Recipe | None = None) -> list[float]:
        """The probability of each session being a verified one."""
        features = _features(_opened(self.base, recipe or Recipe()), examples, (recipe or Recipe()).batch_tokens)
        return ((features - self.mean) / self.deviation @ self.weights + self.bias).sigmoid().tolist()


def train_discriminator(
    base: Base, verified: Sequence[Example], failed: Sequence[Example], out: Path, recipe: Recipe
) -> Report:
    """Train on `verified` against `failed` sessions, measure on a fifth of the goals, save to the folder `out`.

    Raises WhetstoneError if there are too few of either.
    """
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(recipe.seed)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    learner = _opened(base, recipe)
    verified, failed = [e for e in verified if input_length(e)], [e for e in failed if input_length(e)]
    everything = [*verified, *failed]
    labels = {id(example): number < len(verified) for number, example in enumerate(everything)}
    train_on, held = split_by_goal(everything, 0.2, recipe.seed)
    for some in (train_on, held):
        kinds = [labels[id(example)] for example in some]
        if min(sum(kinds), len(kinds) - sum(kinds)) < (FEWEST if some is train_on else 1):
            raise WhetstoneError(
                f"a discriminator needs at least {FEWEST} verified and {FEWEST} failed sessions of several goals; there"
                f" are {len(verified)} and {len(failed)}: sample more"
            )
    features = _features(learner, train_on, recipe.batch_tokens)
    truth = torch.tensor([float(labels[id(example)]) for example in train_on])
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
    weights, bias = _regression((features - mean) / deviation, truth)
    found = Discriminator(base, weights, bias, mean, deviation)
    said = torch.tensor(found.score(held, recipe)) > 0.5
    report = _report(said, torch.tensor([labels[id(example)] for example in held]), len(train_on))
    out.mkdir(parents=True, exist_ok=True)
    save_file({"weights": weights, "bias": bias, "mean": mean, "deviation": deviation}, out / WEIGHTS)
    card = {**asdict(base.lineage), "base": base.spec, "recipe": recipe.card(), "report": asdict(report)}
    write_whole(out / CARD, json.dumps(card, indent=2))
    return report


def read_discriminator(folder: Path, base: Base) -> Discriminator:
    """The classifier in `folder`. Raises WhetstoneError if it is none, or was trained on another base."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise WhetstoneError(f"{folder} is no discriminator ({error}): train one") from error
    lineage = Lineage(**{name: card.get(name, "") for name in ("base_digest", "tokenizer_digest", "template_digest")})
    if lineage != base.lineage:
        raise WhetstoneError(f"the discriminator {folder} was trained on another base than {base.spec}: train it again")
    return Discriminator(base, **tensors)


def weighed(examples: Sequence[Example], scores: Sequence[float]) -> list[Example]:
    """The sessions with weights in proportion to their scores; the mean weight is 1."""
    mean = sum(scores) / max(len(scores), 1)
    return [replace(e, weight=e.weight * s / max(mean, 1e-9)) for e, s in zip(examples, scores, strict=True)]


def _opened(base: Base, recipe: Recipe) -> Learner:
    from agent.learning.learner import open_learner

    return open_learner(base, replace(recipe, method="lora", objective="sft", rank=1), steps=1)


def _features(learner: Learner, examples: Sequence[Example], batch_tokens: int) -> Tensor:
    """[sessions, 2 d] float32, in the order of `examples`: mean and last hidden state before own tokens."""
    import torch

    found: list[Tensor] = []
    with torch.no_grad():
        for batch in batches(examples, batch_tokens, share=learner.shares):
            whole = pack(batch, share=learner.shares).to(learner.device)
            hidden = learner.hidden(whole, adapted=False).float()
            size = (len(batch), hidden.shape[1])
            counts = torch.bincount(whole.owner, minlength=len(batch))
            mean = torch.zeros(size, device=hidden.device).index_add(0, whole.owner, hidden) / counts[:, None]
            last = hidden[counts.cumsum(0) - 1]
            found.append(torch.cat([mean, last], 1).cpu())
    return torch.cat(found)


def _regression(features: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression with both kinds counting alike, however many there are of each."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    weights = torch.zeros(features.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    share = truth.mean()
    balance = torch.where(truth > 0.5, 0.5 / share, 0.5 / (1 - share))
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = binary_cross_entropy_with_logits(features @ weights + bias, truth, weight=balance)
        total = fit + PENALTY * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return weights.detach(), bias.detach()


def _report(said: Tensor, truth: Tensor, trained_on: int) -> Report:
    right = float((said & truth).sum())
    precision = right / max(float(said.sum()), 1.0)
    recall = right / max(float(truth.sum()), 1.0)
    return Report(
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / max(precision + recall, 1e-9),
        accuracy=float((said == truth).float().mean()),
        base_rate=float(truth.float().mean()),
        trained_on=trained_on,
        measured_on=len(truth),
    )
