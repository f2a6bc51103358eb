"""The curriculum: families of small goals, each with files, a check and a teacher that solves it.

    task = task_named("csv_sum/train/7/12")     # family, split, seed, number: the same task for ever

`training_ids` and `agent.learning.curriculum.suite` say which tasks make a training set and the held-out suite. A new
family is a function from a `Draw` to a `Job`, listed in its module's `FAMILIES` (`docs/starter.md`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from agent.learning.curriculum import (
    chains,
    converting,
    csv_changes,
    csv_everyday,
    csv_figures,
    everyday,
    facts,
    labelling,
    lines,
    lookup,
    numbers,
    questions,
    reading,
    reckoning,
    repair,
    searching,
    stopping,
    unseen,
    writing,
)
from agent.learning.curriculum.draw import Draw, Split
from agent.learning.curriculum.slips import slipping
from agent.learning.curriculum.task import Family, Task, task_of
from agent.types import WhetstoneError

VERSION: Mapping[Split, int] = {"train": 10, "heldout": 1}
"""Goes up whenever the same id of the split would give another task."""
_MODULES = (
    lookup,
    labelling,
    reading,
    reckoning,
    repair,
    searching,
    stopping,
    unseen,
    writing,
    csv_changes,
    converting,
    csv_everyday,
    csv_figures,
    questions,
    numbers,
    everyday,
    facts,
    lines,
)


@cache
def families() -> Mapping[str, Family]:
    """All families by name."""
    found = {family.name: family for module in _MODULES for family in module.FAMILIES}
    return found | {family.name: family for family in chains.chained_families(found)}


def task_named(id: str) -> Task:
    """The task of an id `family/split/seed/number`. Raises WhetstoneError when there is no such family or split."""
    name, _, rest = id.partition("/")
    split, _, _ = rest.partition("/")
    family = families().get(name)
    if family is None or split not in ("train", "heldout") or rest.count("/") != 2:
        raise WhetstoneError(
            f"{id!r} is not the id of a task: it is family/split/seed/number, and `curriculum list` names the families"
        )
    if not family.seen and split == "train":
        raise WhetstoneError(f"the family {name} is kept for evaluation: it has no training tasks")
    version = VERSION[split]
    draw = Draw(random.Random(f"{version}/{id}"), split)
    tags = (f"curriculum:{version}", split, *_kind(family))
    task = task_of(family.make(draw), draw, id=id, family=name, tags=tags, others=(family, *_common()))
    if split != "train":
        return task
    return replace(task, play=slipping(task.play, draw, task.row))


@cache
def _common() -> tuple[Family, ...]:
    return tuple(family for family in families().values() if family.seen and family.chains)


def _kind(family: Family) -> tuple[str, ...]:
    if not family.seen:
        return ("unseen",)
    return ("chain",) if family.name.startswith("chain_") else ()


def training_ids(count: int, seed: int) -> Sequence[str]:
    """Ids of `count` training tasks, of all families that are trained on, by weight, in random order."""
    seen = [family for family in families().values() if family.seen]
    total = sum(family.weight for family in seen)
    shares = {family.name: count * family.weight / total for family in seen}
    counts = {name: int(share) for name, share in shares.items()}
    by_rest = sorted(shares, key=lambda name: (counts[name] - shares[name], name))
    for name in by_rest[: count - sum(counts.values())]:
        counts[name] += 1
    ids = [f"{name}/train/{seed}/{number}" for name, wanted in counts.items() for number in range(wanted)]
    random.Random(seed).shuffle(ids)
    return ids
