"""What a curriculum is made of: a job, the goal it becomes, and the teacher who shows how it is done.

A `Job` is one piece of work: words, files, a check, and a `play`, which is a generator. It yields an `Act`, is sent
the observation that came back, and in the end returns what is to be `Said`. A job does not finish the session itself,
so that several jobs can be chained into one goal.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from agent.goalfile import GoalRow
from agent.learning.curriculum.draw import Draw
from agent.types import JSON, Goal, Observation


@dataclass(frozen=True)
class Act:
    """One action of a teacher."""

    thought: str
    tool: str
    args: Mapping[str, JSON]


@dataclass(frozen=True)
class Said:
    """How a job ends: the answer, and the thought that goes with it."""

    thought: str
    answer: JSON


Play = Generator[Act, Observation, Said]


@dataclass(frozen=True)
class Job:
    """One piece of work. `play` is given the text of the session's first turn, which holds what memory offers."""

    goal: str
    files: Mapping[str, str]
    check: Mapping[str, JSON]
    play: Callable[[str], Play]
    remembered: tuple[str, ...] = ()
    answer_schema: Mapping[str, JSON] | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A kind of job. `answers` says that it ends with a short value, which can be written to a file as well."""

    name: str
    about: str
    make: Callable[[Draw], Job]
    answers: bool = False
    chains: bool = True
    """Whether it can be one part of a chained goal."""
    seen: bool = True
    """False for a family that is never trained on."""
    weight: float = 1.0
    """How often it is drawn for training, relative to the others."""


@dataclass(frozen=True)
class Task:
    """A goal with its teacher. `tools` are the tools the session is given (patterns, as in the settings)."""

    row: GoalRow
    play: Callable[[str], Play]
    tools: tuple[str, ...] = ("*",)
    memory: bool = True
    earlier: tuple[str, ...] = ()
    """What memory holds of earlier sessions: of other goals, or no longer true."""


def task_of(
    job: Job, draw: Draw, *, id: str, family: str, tags: tuple[str, ...] = (), others: Sequence[Family]
) -> Task:
    """The job as a goal of its own, in a setting that varies: other tools, no memory, memories of other things.

    What memory may hold is of goals of the first of `others`, and of any.
    """
    goal = Goal(
        text=job.goal,
        check=job.check,
        answer_schema=job.answer_schema,
        tags=(f"family:{family}", *tags, *job.tags),
    )
    row = GoalRow(id=id, goal=goal, files=dict(sorted(job.files.items())), remembered=job.remembered)
    tools, memory, earlier = ("*",), True, ()
    if draw.split == "train" and not job.remembered:
        kind = draw.rng.random()
        if kind < 0.22:
            memory = False
        elif kind < 0.28:
            tools = _fewer(draw.rng)
        elif kind < 0.55:
            earlier = tuple(_earlier(job, draw, others) for _ in range(draw.rng.randint(1, 4)))
    return Task(row, job.play, tools, memory, earlier)


def _earlier(job: Job, draw: Draw, others: Sequence[Family]) -> str:
    """What memory holds of an earlier session: at worst, an answer to what only sounds like the goal."""
    if draw.chance(0.3):
        return draw.record(job.goal)
    family = others[0] if draw.chance(0.5) else draw.any(others)
    other = family.make(Draw(draw.rng, draw.split, part=True))
    try:
        first = next(other.play(other.goal))
    except StopIteration as done:
        return draw.outcome(other.goal, str(done.value.answer))
    said = ", ".join(f"{name}={' '.join(str(value).split())}" for name, value in first.args.items())
    return draw.outcome(other.goal, draw.value(), f"{first.tool}({said})"[:300])


def _fewer(rng: random.Random) -> tuple[str, ...]:
    """Without one to four tools; a teacher who misses one is given all of them (`Classroom.teach`)."""
    names = ("list_files", "read_file", "search_files", "write_file", "edit_file", "run_python", "recall", "remember")
    dropped = rng.sample(names, rng.randint(1, 4))
    return tuple(name for name in names if name not in dropped)
