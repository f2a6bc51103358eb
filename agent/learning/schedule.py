"""Which sessions an optimizer step sees, decided by the seed alone."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.learning.examples import Example
from agent.learning.packing import batches, input_length
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError


@dataclass(frozen=True)
class Source:
    """Examples with a weight of their own in the loss. The first source of a training sets its length.

    Where `rejected` has sessions by prompt, a micro-batch is made of pairs: a session, then a rejected one of the same
    prompt.
    """

    name: str
    examples: Sequence[Example]
    weight: float = 1.0
    rejected: Mapping[tuple[int, ...], Sequence[Example]] = field(
        default_factory=dict[tuple[int, ...], Sequence[Example]]
    )

    def everything(self) -> list[Example]:
        """All examples, the rejected ones after them."""
        return [*self.examples, *(example for prompt in sorted(self.rejected) for example in self.rejected[prompt])]


@dataclass(frozen=True)
class Turn:
    """What one source gives to a step: micro-batches and the weight of their mean loss."""

    source: Source
    batches: Sequence[Sequence[Example]]


Step = tuple[Turn, ...]


def pairs(examples: Sequence[Example], rejected: Sequence[Example]) -> Source:
    """The sessions that can be paired with a rejected one of the same prompt: only then is what follows comparable.

    Raises WhetstoneError if there are none.
    """
    by_prompt: dict[tuple[int, ...], list[Example]] = {}
    for example in filter(input_length, rejected):
        by_prompt.setdefault(example.prompt, []).append(example)
    chosen = [example for example in examples if example.prompt in by_prompt]
    if not chosen:
        raise WhetstoneError(
            "no session of the dataset has the prompt of a rejected one, word for word: sample several sessions of each"
            " goal, with the same tools and without memory"
        )
    prompts = {example.prompt for example in chosen}
    return Source("task", chosen, rejected={prompt: found for prompt, found in by_prompt.items() if prompt in prompts})


def schedule(sources: Sequence[Source], recipe: Recipe, *, share: bool = True) -> list[Step]:
    """All steps of a training. Each epoch shuffles anew; sources after the first are repeated or cut to fit.

    Raises WhetstoneError if the first source has nothing to learn from.
    """
    first, *others = sources
    main = _micro_batches(first, recipe, share, None)
    if not main:
        raise WhetstoneError("no session of the dataset has a token to learn from: build the dataset again")
    groups = [main[i : i + recipe.accumulate] for i in range(0, len(main), recipe.accumulate)]
    beside = [_micro_batches(source, recipe, share, len(main)) for source in others]
    steps: list[Step] = []
    taken = 0
    for group in groups:
        turns = [Turn(first, group)]
        for source, found in zip(others, beside, strict=True):
            if found:
                turns.append(Turn(source, [found[(taken + i) % len(found)] for i in range(len(group))]))
        taken += len(group)
        steps.append(tuple(turns))
    return steps


def split_by_goal(
    examples: Sequence[Example], share: float, seed: int, keep: str = ""
) -> tuple[list[Example], list[Example]]:
    """Set apart all sessions of a random `share` of the goals: (to train on, held out).

    Sessions of one goal stay together, so that the held-out loss does not measure memory. Few goals give none. The goal
    of the session `keep` is trained on.
    """
    goals = sorted({example.goal for example in examples} - {e.goal for e in examples if e.session == keep})
    random.Random(f"{seed} held out").shuffle(goals)
    held = set(goals[: int(len(goals) * share)])
    return [e for e in examples if e.goal not in held], [e for e in examples if e.goal in held]


def _micro_batches(source: Source, recipe: Recipe, share: bool, wanted: int | None) -> list[list[Example]]:
    """Micro-batches of `recipe.epochs` epochs, or as many epochs as `wanted` micro-batches need."""
    found: list[list[Example]] = []
    epoch = 0
    while True:
        random_order = random.Random(f"{recipe.seed} {source.name} {epoch}")
        tokens = recipe.batch_tokens // 2 if source.rejected else recipe.batch_tokens
        cut = batches(source.examples, tokens, random_order, share=share)
        if not cut:
            return []
        if source.rejected:
            cut = [_paired(batch, source.rejected, random_order) for batch in cut]
        epoch += 1
        if wanted is not None:
            found += cut
            if len(found) >= wanted:
                return found[:wanted]
            continue
        left = recipe.epochs - (epoch - 1)
        found += cut if left >= 1 else cut[: math.ceil(left * len(cut))]
        if epoch >= recipe.epochs:
            return found


def _paired(
    batch: Sequence[Example], rejected: Mapping[tuple[int, ...], Sequence[Example]], order: random.Random
) -> list[Example]:
    return [one for example in batch for one in (example, order.choice(rejected[example.prompt]))]
