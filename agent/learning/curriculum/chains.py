# ruff: noqa: E501
"""Goals of several parts: a result that is to be saved, two or three jobs after each other, a find that leads to a change."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import script
from agent.learning.curriculum.checks import every, file_is, in_file, lenient
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording, wordings

_SAID = wordings("chains")
SAVED = _SAID["saved"]
TWO = _SAID["two"]
THREE = _SAID["three"]
FIND_CHANGE = _SAID["find_change"]
OPENERS = frozenset(
    "what which how where who in on find look get tell give show read open check compute calculate work add sum count make create"
    " write put save store change set update copy duplicate rename move delete remove replace sort order arrange merge combine join"
    " convert turn filter extract collect list name label classify is does the according use per from group take append fix".split()
)
ORDINARY = 3
"""One of so many pairs of families is kept for held-out chains."""


def chained_families(families: Mapping[str, Family]) -> tuple[Family, ...]:
    """The families of chains over `families`."""
    answering = [family for family in families.values() if family.answers and family.seen]
    parts = [family for family in families.values() if family.chains and family.seen]

    def saved(draw: Draw) -> Job:
        family = draw.any(answering)
        return _saved(draw, family.make(_part(draw)))

    def two(draw: Draw) -> Job:
        return _together(draw, parts, 2)

    def three(draw: Draw) -> Job:
        return _together(draw, parts, 3)

    return (
        Family("chain_saved", "a result that is to be saved", saved, chains=False, weight=5.0),
        Family("chain_two", "two jobs after each other", two, chains=False, weight=10.0),
        Family("chain_three", "three jobs after each other", three, chains=False, weight=3.0),
        Family("chain_find_change", "a text to be found and changed", _find_change, chains=False, weight=1.2),
    )


def _saved(draw: Draw, job: Job) -> Job:
    target = draw.new_path(_paths(job), "txt", draw.any(("answer", "result", "output", "total", "value", "")))
    first = job.goal if job.goal.endswith("?") else job.goal + "."

    def play(opening: str) -> Play:
        said = yield from job.play(opening)
        value = str(said.answer)
        yield Act(f"{said.thought} I write that to {target}.", "write_file", {"path": target, "content": value})
        return Said(f"{value} stands in {target}.", f"Wrote {value} to {target}.")

    goal = _say(draw, SAVED, goal=first, file=target)
    return replace(job, goal=goal, check=in_file(job.check, target), play=play)


def _together(draw: Draw, parts: Sequence[Family], count: int) -> Job:
    """Jobs of different families whose files do not get in each other's way."""
    while True:
        chosen = draw.rng.sample(list(parts), count)
        if not all(_allowed(draw, a.name, b.name) for a, b in pairwise(chosen)):
            continue
        jobs = [family.make(_part(draw)) for family in chosen]
        stems = [{path.rpartition("/")[2].rpartition(".")[0].lower() for path in _paths(job)} for job in jobs]
        if (
            sum(map(len, stems)) == len(set().union(*stems))
            and sum(len(t) for job in jobs for t in job.files.values()) < 1400
        ):
            break
    goals = [job.goal if job.goal.endswith("?") else job.goal + "." for job in jobs]
    goals = [goals[0], *(_inside(draw, goal) for goal in goals[1:])]
    goal = _say(draw, TWO if count == 2 else THREE, **dict(zip("abc", goals, strict=False)))

    def play(opening: str) -> Play:
        said = yield from jobs[0].play(opening)
        answers = [said.answer]
        for job in jobs[1:]:
            said = yield from _after(said, job.play(opening))
            answers.append(said.answer)
        ended = "; ".join(str(answer).rstrip(".") for answer in answers)
        return Said(f"{said.thought} All parts are done.", ended)

    check = every(*(lenient(job.check) for job in jobs))
    files = {path: text for job in jobs for path, text in job.files.items()}
    return Job(goal, files, check, play, tags=tuple(f"part:{family.name}" for family in chosen))


def _find_change(draw: Draw) -> Job:
    """A text that stands in one of several files is replaced there."""
    files: dict[str, str] = {}
    for _ in range(draw.whole(3, 5)):
        files[draw.new_path(list(files), draw.any(("txt", "md")))] = (
            "\n".join(remark(draw) for _ in range(draw.whole(1, 3))) + "\n"
        )
    path = draw.any(list(files))
    old, new = draw.any(((draw.code(), draw.code()), tuple(draw.some(names.CITIES, 2)), (draw.person(), draw.person())))
    if old == new or old in new:
        return _find_change(draw)
    lines = files[path].splitlines()
    for _ in range(draw.whole(1, 2)):
        lines.insert(
            draw.whole(0, len(lines)), draw.any(("We met at {}.", "- {}", "Note: {}", "Ask for {}.")).format(old)
        )
    files[path] = "\n".join(lines) + "\n"
    code = script(
        "from pathlib import Path",
        f"path = Path({path!r})",
        "text = path.read_text()",
        f"path.write_text(text.replace({old!r}, {new!r}))",
        f"print(text.count({old!r}), 'replaced')",
    )

    def play(_: str) -> Play:
        yield Act(f"I search all files for {old}.", "search_files", {"pattern": old})
        yield Act(f"{old} is in {path}, I replace it there.", "run_python", {"code": code})
        return Said("It is replaced.", f"Replaced {old} by {new} in {path}.")

    quote = draw.any(("'", '"', ""))
    goal = draw.say(FIND_CHANGE, old=f"{quote}{old}{quote}", new=f"{quote}{new}{quote}")
    return Job(goal, files, every(*(file_is(p, t.replace(old, new)) for p, t in files.items())), play)


def _after(said: Said, play: Play) -> Play:
    """The next job's play, whose first thought says what the last one found."""
    try:
        act = next(play)
        act = replace(act, thought=f"{said.thought} Next: {act.thought}")
        while True:
            seen = yield act
            act = play.send(seen)
    except StopIteration as done:
        return done.value


def _say(draw: Draw, wording: Wording, **values: str) -> str:
    """The parts put together; each is a whole sentence, and keeps its own capitals."""
    goal = Draw(draw.rng, draw.split, part=True).say(wording, **values)
    if draw.chance(0.15):
        goal = goal + draw.any(
            (" Thanks!", " Thank you.", " Please.") if draw.split == "train" else (" Cheers.", " Much appreciated.")
        )
    elif not goal.endswith((".", "?")):
        goal = goal + draw.any((".", ""))
    return goal


def _inside(draw: Draw, goal: str) -> str:
    """The sentence as it goes on after another: without its capital, unless that belongs to a value."""
    first = goal.partition(" ")[0]
    ordinary = first.isalpha() and first.lower() in OPENERS
    return goal[0].lower() + goal[1:] if ordinary and draw.chance(0.8) else goal


def _part(draw: Draw) -> Draw:
    return Draw(draw.rng, draw.split, part=True)


def _allowed(draw: Draw, first: str, second: str) -> bool:
    """Whether this split may put these families after each other."""
    kept = zlib.crc32(f"{first}>{second}".encode()) % ORDINARY == 0
    return first != second and kept == (draw.split == "heldout")


def _paths(job: Job) -> list[str]:
    """Every path the job has or makes, as far as files, goal and check name it."""
    spoken = [word.strip(".,;:!?'\"") for word in job.goal.split()]
    return list(dict.fromkeys([*job.files, *(word for word in spoken if "." in word and "/" not in word[-4:])]))
