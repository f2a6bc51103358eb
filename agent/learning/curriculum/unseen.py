"""Families that are never trained on: what is learned from the others has to do for them."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("unseen")
BIGGEST = _SAID["biggest"]
LONGEST = _SAID["longest"]
ONLY_IN = _SAID["only_in"]


def biggest_file(draw: Draw) -> Job:
    """The largest of several files."""
    files: dict[str, str] = {}
    sizes = draw.rng.sample(range(1, 12), draw.whole(3, 5))
    for size in sizes:
        files[draw.new_path(list(files), draw.any(("txt", "md", "log")))] = "".join(
            remark(draw) + "\n" for _ in range(size)
        )
    path = max(files, key=lambda name: len(files[name].encode()))
    others = [other for other in files if other != path and other not in path]

    def play(_: str) -> Play:
        yield Act("I list the files with their sizes.", "list_files", {})
        return Said(f"{path} has the most bytes.", path)

    return Job(draw.say(BIGGEST), files, says(path, never=others), play)


def longest_line(draw: Draw) -> Job:
    """The longest line or word of a text."""
    path = draw.text_path()
    lines = list(dict.fromkeys(remark(draw) for _ in range(draw.whole(4, 8))))
    lines[0] = (
        f"{lines[0]} {draw.pick(names.WORDS)}{draw.pick(names.WORDS)}{draw.pick(names.ANIMALS)} is a long word indeed."
    )
    draw.rng.shuffle(lines)
    unit = draw.any(("line", "word"))
    items = lines if unit == "line" else " ".join(lines).split()
    longest = max(items, key=len)
    part = "splitlines" if unit == "line" else "split"
    code = script(
        "from pathlib import Path", f"parts = Path({path!r}).read_text().{part}()", "print(max(parts, key=len))"
    )

    def play(_: str) -> Play:
        out = yield from compute(code, f"I find the longest {unit} of {path} with a script.")
        return Said(f"That is the longest {unit}.", out)

    return Job(
        draw.say(LONGEST, unit=unit, file=path),
        {path: "\n".join(lines) + "\n"} | draw.clutter([path]),
        says(longest.strip(".,:")),
        play,
    )


def only_in(draw: Draw) -> Job:
    """Lines of one file that another does not have."""
    items = draw.some(draw.any((names.PRODUCTS, names.CITIES, names.FIRST, names.WORDS)), draw.whole(5, 8))
    missing = draw.rng.sample(items, draw.whole(1, 3))
    more = draw.some(names.LAST, 2)
    first = draw.text_path()
    second = draw.new_path([first], "txt")
    others = [item for item in items if item not in missing] + more
    draw.rng.shuffle(others)
    code = script(
        "from pathlib import Path",
        f"first = Path({first!r}).read_text().splitlines()",
        f"second = Path({second!r}).read_text().splitlines()",
        "print(', '.join(line for line in first if line not in second))",
    )

    def play(_: str) -> Play:
        yield from read(first)
        yield from read(second, f"I read {second} as well.")
        out = yield from compute(code, "I compare both files with a script.")
        return Said(f"These are only in {first}.", out)

    files = {first: "\n".join(items) + "\n", second: "\n".join(others) + "\n"}
    kept = [item for item in items if item not in missing]
    return Job(
        draw.say(ONLY_IN, first=first, second=second),
        files | draw.clutter([first, second]),
        says(*missing, never=kept),
        play,
    )


FAMILIES = (
    Family("biggest_file", "the largest of several files", biggest_file, seen=False),
    Family("longest_line", "the longest line or word", longest_line, seen=False),
    Family("only_in", "lines that another file does not have", only_in, seen=False),
)
