"""Families about which files there are and what is in which: list, count, find a mention, find a value anywhere."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import says, unable
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import SENTENCES, THINGS, remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording

WHICH = Wording(
    train=(
        "Which file (mentions|contains|talks about|has|refers to) {what}?",
        "(Find|Tell me|Name|Look for|Search for) the file that (mentions|contains|talks about) {what}",
        "In which file (is|does) {what} (mentioned|appear|occur|stand)?",
        "Where (is|do you find) {what} (mentioned|written)? (Name|Give me) the file",
        "(Search|Look through|Go through) (all|the) files for {what} (and tell me which one has it|and name the file)",
        "I need the (name of the|) file (with|that mentions) {what}",
        "What file (has|mentions) {what} (in it|)?",
        "~which file has {what}",
        "~file that mentions {what}?",
        "(Somewhere|In some file) {what} is (mentioned|written). Which file (is it|was that)?",
        "(One|Some) file (here|in this folder) (mentions|contains) {what}. (Find it|Which one is it)?",
    ),
    heldout=(
        "There is a reference to {what} in one of these files; (name|identify) it",
        "{what}: which document brings it up?",
        "Track down the file in which somebody wrote about {what}",
        "Under what file name would I come across {what}?",
    ),
)
ANYWHERE = Wording(
    train=(
        "What is the {key}? (It is|It stands|It must be) (somewhere in|in one of) (the files|these files|this folder)",
        "(Find|Look up|Search for|Get|Tell me) the {key} (in|among) (these|the|my) files",
        "What is the {key}? (Search|Look through) the files",
        "(Somewhere|In one of the files) (the {key} is given|there is the {key}). What is it?",
        "(Search|Look through|Go through) the (workspace|folder|files) and (tell me|give me) the {key}",
        "I don't know which file it is in, but what is the {key}?",
        "~{key}? search the files",
        "Which {key} (is written|is given|stands) in the files?",
        "Do my files say what the {key} is?",
        "What's the {key}?",
        "Tell me the {key}",
    ),
    heldout=(
        "One of these documents reveals the {key}; (quote|state) it",
        "Hunt through everything here for the {key}",
        "The {key} must have been noted in some file. What is it?",
    ),
)
LISTING = Wording(
    train=(
        "(Which|What) files are (in|there in|stored in) (the workspace|this folder|the folder|the directory)?",
        "(List|Show me|Name|Give me|Tell me) (all|the|all the) files (in the workspace|in this folder|here|you have|)",
        "What is in (the workspace|this folder|the folder|here)?",
        "What files (do you have|do you see|can you see|are here|exist)?",
        "(Look into|Look at) (the|this) folder and (tell me|list) what (files are|is) (in it|there)",
        "~ls",
        "~list files",
        "Give me an overview of the files (here|in the workspace)",
        "Show the content of (the|this) (folder|workspace|directory)",
    ),
    heldout=(
        "Enumerate whatever is stored here",
        "What have we got in this directory?",
        "I would like an inventory of the workspace (files|)",
    ),
)
KIND = Wording(
    train=(
        "(Which|What) {kind} files are (in|there in) (the workspace|this folder|the folder)?",
        "(List|Show me|Name|Tell me|Find) (all|the|all the) {kind} files (here|in the workspace|in this folder|)",
        "Which of the files (are|is a) {kind} (files|file)?",
        "What {kind} files do we have (here|)?",
        "~{kind} files?",
        "Are there {kind} files (here|in this folder)? Which (ones|)?",
    ),
    heldout=("Enumerate everything of type {kind}", "I am after the {kind} documents, what are they called?"),
)
HOW_MANY = Wording(
    train=(
        "How many files are (in|there in) (the workspace|this folder|the folder|the directory)?",
        "(Count|Tell me the number of) (the|all|) files (in the workspace|in this folder|here)",
        "What is the number of files (in the workspace|in this folder|here)?",
        "How many files (do you see|do we have|are there|exist here)?",
        "~number of files here?",
    ),
    heldout=("What does a headcount of the files give?", "Tally the files that are stored here"),
)
IS_THERE = Wording(
    train=(
        "Is there a file (called|named|) {file} (here|in the workspace|in this folder|)?",
        "Does (the file|a file called|) {file} exist?",
        "(Check|Tell me|Find out) (if|whether) {file} (exists|is there|is in the workspace)",
        "Do we have (a file called|) {file}?",
        "Can you see {file}?",
        "~{file} there?",
    ),
    heldout=("Would I find {file} among these files?", "Verify that {file} is present"),
)


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
    keys = draw.some(THINGS, draw.whole(1, 4))
    asked = keys[0]
    values = {key: draw.code() if draw.chance(0.7) else draw.value() for key in keys}
    for key, value in values.items():
        path = draw.any(list(files))
        lines = files[path].splitlines()
        lines.insert(
            draw.whole(0, len(lines)), draw.any(SENTENCES).format(key=key, Key=key[:1].upper() + key[1:], value=value)
        )
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
    kind = draw.whole(0, 5)
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
        files |= {name: draw.filler(name) for name in [draw.new_path([*files, path], "txt")]}

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


READ_OUT = Wording(
    train=(
        "What (does|is in|does the file) {file} (say|)?",
        "(Read|Open|Show me|Print|Display) {file}",
        "(Read|Open|Look into) {file} and (tell me|show me) what (it says|is in it)",
        "What is (the content of|inside|written in) {file}?",
        "(Show|Give|Tell) me (the content of|what is in) {file}",
        "~cat {file}",
        "~{file}?",
        "What's in {file}?",
        "(Read|Quote) {file} (to me|word for word|)",
    ),
    heldout=("Recite {file}", "I want to see the text of {file}", "{file}: what did they write in there?"),
)


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
