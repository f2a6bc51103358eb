"""Families about which files there are and what is in which: list, count, find a mention, find a value anywhere."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import says, unable
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark, sentence, stated, things
from agent.learning.curriculum.slips import misspelt
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("searching")
WHICH = _SAID["which"]
ANYWHERE = _SAID["anywhere"]
LISTING = _SAID["listing"]
KIND = _SAID["kind"]
HOW_MANY = _SAID["how_many"]
IS_THERE = _SAID["is_there"]


def which_file(draw: Draw) -> Job:
    """The file that mentions something."""
    files = _texts(draw, draw.whole(3, 6))
    what = draw.any(
        (
            draw.person(),
            draw.pick(names.CITIES),
            draw.code(),
            draw.pick(names.UNTITLED),
            f"{draw.pick(names.COLOURS)} {draw.pick(names.ANIMALS)}",
        )
    )
    path = draw.any(list(files))
    sentence = draw.any(
        (
            "{} is on the list.",
            "We talked about {}.",
            "Remember: {}",
            "- {}",
            "Ask about {} again.",
            "See {} for more.",
            "{} was confirmed.",
        )
    )
    lines = files[path].splitlines()
    lines.insert(draw.whole(0, len(lines)), sentence.format(what))
    files[path] = "\n".join(lines) + "\n"
    spoken = f"{what!r}" if draw.chance(0.3) else f'"{what}"' if draw.chance(0.1) else what
    others = [other for other in files if other != path and other not in path]

    def play(_: str) -> Play:
        seen = yield Act(f"I search all files for {what}.", "search_files", {"pattern": what})
        found = seen.text.split(":")[0]
        return Said(f"{what} is in {found}.", found)

    return Job(draw.say(WHICH, what=spoken), files, says(path, never=others), play)


def find_value(draw: Draw) -> Job:
    """A fact in one of several files; the goal does not say which."""
    files = _texts(draw, draw.whole(2, 5))
    keys = things(draw, draw.whole(1, 4))
    asked = keys[0]
    values = {key: draw.code() if draw.chance(0.7) else draw.value() for key in keys}
    for key, value in values.items():
        path = draw.any(list(files))
        lines = files[path].splitlines()
        lines.insert(draw.whole(0, len(lines)), stated(sentence(draw), key, value))
        files[path] = "\n".join(lines) + "\n"
    value = values[asked]

    def play(_: str) -> Play:
        seen = yield Act(f"I search all files for {asked}.", "search_files", {"pattern": asked})
        return Said(f"{seen.text.split(':')[0]} says the {asked} is {value}.", value)

    return Job(draw.say(ANYWHERE, key=asked), files, says(value), play)


def list_names(draw: Draw) -> Job:
    """Which files there are, which of a kind, how many, or whether one is there."""
    files = {}
    for _ in range(draw.whole(2, 6)):
        path = draw.new_path(list(files), draw.any(("txt", "md", "csv", "json", "log", "py", "ini")))
        files[path] = draw.filler(path)
    kind = draw.whole(0, 5) if draw.split == "heldout" else draw.any((0, 0, 3, 4, 5, 5))
    if kind <= 2:
        return _listing(draw, files)
    if kind == 3:
        return _of_a_kind(draw, files)
    if kind == 4:
        code = script("from pathlib import Path", "print(sum(p.is_file() for p in Path('.').rglob('*')))")

        def count(_: str) -> Play:
            out = yield from compute(code, "I count the files with a script.")
            return Said(f"There are {out} files.", out)

        return Job(draw.say(HOW_MANY), files, says(len(files)), count)
    path = draw.any(list(files))
    there = draw.chance(0.5)
    if not there:
        del files[path]
        other = draw.new_path([*files, path], "txt")
        if draw.split == "train" and draw.chance(0.5):
            other = misspelt(draw, path)  # one that is nearly called so is not it
        files |= {other: draw.filler(other)}

    def look(_: str) -> Play:
        yield Act(f"I list the files and look for {path}.", "list_files", {})
        if there:
            return Said(f"{path} is in the list.", f"Yes, {path} exists.")
        return Said(f"{path} is not in the list.", f"No, {path} does not exist.")

    check = says("yes") if there else unable()
    return Job(draw.say(IS_THERE, file=path), files, check, look)


def read_out(draw: Draw) -> Job:
    """What a short file says, word for word."""
    path = draw.text_path()
    kind = draw.whole(0, 2)
    line = remark(draw) if kind == 0 else draw.code() if kind == 1 else f"{draw.pick(names.UNTITLED)}: {draw.value()}"
    files = {path: line + "\n"} | draw.clutter([path])

    def play(_: str) -> Play:
        text = yield from read(path)
        return Said(f"{path} has one line.", text)

    return Job(draw.say(READ_OUT, file=path), files, says(line), play)


READ_OUT = _SAID["read_out"]


def _listing(draw: Draw, files: dict[str, str]) -> Job:
    def play(_: str) -> Play:
        seen = yield Act("I list the files.", "list_files", {})
        found = [line.rpartition(" (")[0] for line in seen.text.split("\n") if not line.endswith("/")]
        return Said("These are the files.", ", ".join(found))

    return Job(draw.say(LISTING), files, says(*files), play)


def _of_a_kind(draw: Draw, files: dict[str, str]) -> Job:
    extension = draw.any(sorted({path.rpartition(".")[2] for path in files}))
    spoken = {"txt": ("text", ".txt"), "md": ("Markdown", ".md"), "py": ("Python", ".py"), "log": ("log", ".log")}
    kind = draw.any(spoken.get(extension, (extension.upper(), f".{extension}", extension)))
    others = [path for path in files if not path.endswith(f".{extension}")]

    def play(_: str) -> Play:
        seen = yield Act("I list the files.", "list_files", {})
        listed = [line.rpartition(" (")[0] for line in seen.text.split("\n") if not line.endswith("/")]
        found = [path for path in listed if path.endswith(f".{extension}")]
        return Said(f"These end with .{extension}.", ", ".join(found))

    wanted = [path for path in files if path not in others]
    return Job(draw.say(KIND, kind=kind), files, says(*wanted, never=others), play)


def _texts(draw: Draw, count: int) -> dict[str, str]:
    files: dict[str, str] = {}
    for _ in range(count):
        path = draw.new_path(list(files), draw.any(("txt", "txt", "md", "log")))
        files[path] = "\n".join(remark(draw) for _ in range(draw.whole(1, 4))) + "\n"
    return files


FAMILIES = (
    Family("which_file", "which file mentions something", which_file, answers=True, chains=False, weight=1.3),
    Family("find_value", "a fact in a file that is not named", find_value, answers=True, chains=False, weight=1.5),
    Family("list_names", "which files there are", list_names, chains=False, weight=1.2),
    Family("read_out", "what a short file says", read_out, answers=True, weight=0.7),
)
