"""Slips of the pen: a teacher misspells a file, forgets a folder, or looks into a file that is still to be made; he is
told so, and does it right.

A small model makes such mistakes, and a teacher who never does cannot show how one goes on. What ended in an error is
never learned from (`agent.learning.sequences`), so the student sees the slip and learns the repair only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from agent.goalfile import GoalRow
from agent.learning.curriculum.checks import files_of
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Act, Play
from prompts import names_in

SHARE, SHARE_OF_FOLDERS, SHARE_OF_TARGETS = 0.1, 0.3, 0.12
"""How often an action that can slip does, one that makes a folder, and the first one of a goal that names a file to be
made; at most one of a session."""
_QUOTED = re.compile(r"'([^'\n]+)'")
_MAKES_FOLDER = re.compile(r"(?m)^(?:import os\n)?(?:os\.makedirs|Path)\('([^']+)'(?:\)\.mkdir\(|, ).*\n")


def slipping(play: Callable[[str], Play], draw: Draw, row: GoalRow) -> Callable[[str], Play]:
    """The same play with now and then a slip on a file of the goal's workspace, or on one that it wants made."""
    seed = draw.rng.getrandbits(32)
    files, targets = row.files, to_be_made(row)

    def played(opening: str) -> Play:
        own, slipped, first = Draw(random.Random(seed), draw.split), False, True
        acting = play(opening)
        try:
            act = next(acting)
            while True:
                wrong = None if slipped else (first and _too_soon(act, own, targets)) or _slip(act, own, files)
                first = False
                if wrong is not None:
                    slipped = True
                    slip, thought = wrong
                    if (yield slip).status != "ok":  # else nothing went wrong after all
                        act = replace(act, thought=thought)
                act = acting.send((yield act))
        except StopIteration as done:
            return done.value

    return played


def to_be_made(row: GoalRow) -> list[str]:
    """The files that a goal names, that its check looks into, and that are not there."""
    looked_into = files_of(row.goal.check)
    return [name for name in names_in(row.goal.text) if name in looked_into and name not in row.files]


def misspelt(draw: Draw, path: str) -> str:
    """A name like the path's: a letter less, an s more, another extension, another case."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.rpartition(".")
    kind = draw.whole(0, 4)
    if kind == 0 and len(stem) > 4:
        at = draw.whole(1, len(stem) - 2)
        stem = stem[:at] + stem[at + 1 :]
    elif kind == 1:
        stem = stem.removesuffix("s") if stem.endswith("s") else stem + "s"
    elif kind == 2:
        extension = "md" if extension == "txt" else "txt"
    elif kind == 3:
        stem = stem.lower() if stem != stem.lower() else stem.capitalize()
    elif slash and draw.chance(0.7):
        return f"{stem}.{extension}"
    else:
        stem = f"{stem}_old" if draw.chance(0.3) else stem.replace("_", "-") if "_" in stem else stem + "1"
    return f"{folder}{slash}{stem}.{extension}"


def _too_soon(act: Act, draw: Draw, targets: Sequence[str]) -> tuple[Act, str] | None:
    """A look into a file that the goal wants to have made, and what the teacher thinks then; None if there is none."""
    if not targets or not draw.chance(SHARE_OF_TARGETS):
        return None
    path = draw.any(targets)
    thought = f"{path} is not there yet, it is still to be made. {act.thought}"
    return Act(f"I read {path} first.", "read_file", {"path": path}), thought


def _slip(act: Act, draw: Draw, files: Collection[str]) -> tuple[Act, str] | None:
    """The action with a slip in it, and what the teacher thinks once it is told; None if it does not slip."""
    code, path = str(act.args.get("code", "")), str(act.args.get("path", ""))
    made = _MAKES_FOLDER.search(code)
    if not draw.chance(SHARE_OF_FOLDERS if made else SHARE):
        return None
    left = _MAKES_FOLDER.sub("", code, count=1)
    if act.tool == "run_python" and made and f"'{made[1]}/" in left and draw.chance(0.6):
        return replace(act, args={"code": left}), f"There is no folder {made[1]}, the script makes it first."
    if act.tool == "run_python":
        path = next((quoted for quoted in _QUOTED.findall(code) if quoted in files), "")
    if act.tool not in ("run_python", "read_file") or path not in files or f"open('{path}', 'a" in code:
        return None  # what is opened to be added to is made where it is missing
    wrong = _shortened(draw, path) if draw.chance(0.5) else misspelt(draw, path)
    if wrong in files:
        return None
    args = {"path": wrong} if act.tool == "read_file" else {"code": code.replace(f"'{path}'", f"'{wrong}'")}
    return replace(act, args=args), f"I misspelt it, the file is {path}."


def _shortened(draw: Draw, path: str) -> str:
    """The path with some letters of its name left out in the middle, as where a word ends like another one."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.rpartition(".")
    if len(stem) < 6:
        return misspelt(draw, path)
    first = draw.whole(3, len(stem) - 3)
    return f"{folder}{slash}{stem[:first]}{draw.any(('s', stem[-1], ''))}.{extension}"
