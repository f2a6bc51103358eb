"""Examples made of random tokens, in the shape of real sessions: a common system turn, then turns with loss."""

from __future__ import annotations

import random
from dataclasses import replace

from agent.learning.examples import Example


def random_examples(
    count: int,
    *,
    vocabulary: int = 256,
    shared: int = 12,
    own: tuple[int, int] = (10, 40),
    seed: int = 0,
    **fields: object,
) -> list[Example]:
    """`count` sessions that begin with the same `shared` tokens; a third of the others have loss."""
    choice = random.Random(seed)
    system = [choice.randrange(vocabulary) for _ in range(shared)]
    found: list[Example] = []
    for number in range(count):
        length = choice.randint(*own)
        turn = [choice.randrange(vocabulary) for _ in range(length)]
        loss = [False] * shared + [place % 3 == 1 for place in range(length)]
        found.append(
            Example(
                ids=tuple(system + turn), loss=tuple(loss), session=f"s{number}", digest="", goal=f"goal {number}",
                family="random", shared=shared, **fields,  # pyright: ignore
            )
        )  # fmt: skip
    return found


def pairs_of_examples(count: int) -> tuple[list[Example], list[Example]]:
    """Chosen and rejected sessions that begin alike, up to the first token with loss, and go on differently."""
    chosen, others = random_examples(count), random_examples(count, seed=3)
    rejected = [
        replace(other, ids=one.prompt + other.ids[len(one.prompt) :]) for one, other in zip(chosen, others, strict=True)
    ]
    return chosen, rejected
