"""Families that work on the lines and words of texts: count, replace, sort, de-duplicate, merge, pick one."""

from __future__ import annotations

from collections.abc import Sequence

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import every, file_is, file_lines, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import log_lines, remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("lines")
COUNT = _SAID["count"]
MATCHES = _SAID["matches"]
LINES_WITH = _SAID["lines_with"]
REPLACE = _SAID["replace"]
SORT = _SAID["sort"]
DEDUPE = _SAID["dedupe"]
MERGE = _SAID["merge"]
PICK = _SAID["pick"]


def count_units(draw: Draw) -> Job:
    """How many lines, words or characters a file has."""
    path = draw.path(draw.any(("txt", "md", "txt", "log")))
    lines = [remark(draw) for _ in range(draw.whole(3, 12))]
    if draw.chance(0.3):
        lines, _ = log_lines(draw, "ERROR")
    text = "\n".join(lines) + "\n"
    unit = draw.any(("lines", "lines", "words", "words", "characters"))
    count = {"lines": len(lines), "words": len(text.split()), "characters": len(text)}[unit]
    measure = {"lines": "text.splitlines()", "words": "text.split()", "characters": "text"}[unit]
    code = script("from pathlib import Path", f"text = Path({path!r}).read_text()", f"print(len({measure}))")

    def play(_: str) -> Play:
        out = yield from compute(code, f"I count the {unit} of {path} with a script.")
        return Said(f"{path} has {out} {unit}.", out)

    check = says(count) if unit != "characters" else {"any": [says(count), says(count - 1)]}
    return Job(draw.say(COUNT, unit=unit, file=path), {path: text} | draw.clutter([path]), check, play)


def count_matches(draw: Draw) -> Job:
    """How often a word occurs, or on how many lines."""
    path = draw.text_path()
    if draw.chance(0.4):
        level = draw.any(("ERROR", "WARNING"))
        lines, _ = log_lines(draw, level)
        path = draw.path("log", draw.pick(names.SERVICES))
        return _lines_with(draw, path, lines, level)
    word = draw.any((draw.pick(names.WORDS), draw.pick(names.FIRST), draw.pick(names.PRODUCTS)))
    others = [other for other in draw.some(names.WORDS, 12) if word.lower() not in other]
    hits = draw.whole(2, 6)
    words = [word] * hits + [draw.any(others) for _ in range(draw.whole(15, 40))]
    draw.rng.shuffle(words)
    lines = [" ".join(words[at : at + 7]) for at in range(0, len(words), 7)]
    if draw.chance(0.3):
        return _lines_with(draw, path, lines, word)
    spoken = draw.any((word, f"'{word}'", f'"{word}"', f"the word {word}", f"the word '{word}'"))
    code = script("from pathlib import Path", f"text = Path({path!r}).read_text()", f"print(text.count({word!r}))")

    def play(_: str) -> Play:
        out = yield from compute(code, f"I count {word} in {path} with a script.")
        return Said(f"{word} occurs {out} times.", out)

    files = {path: "\n".join(lines) + "\n"} | draw.clutter([path])
    return Job(draw.say(MATCHES, word=spoken, file=path), files, says(hits), play)


def replace_text(draw: Draw) -> Job:
    """One text for another, everywhere in a file."""
    path = draw.text_path()
    kind = draw.whole(0, 3)
    pools = (names.FIRST, names.CITIES, names.PRODUCTS, names.COLOURS)
    old, new = draw.some(draw.any(pools), 2) if kind else (draw.code(), draw.code())
    if draw.chance(0.2):
        new = draw.any((draw.code(), draw.person(), draw.date()))
    forms = (
        "{} comes on {day}.",
        "Ask for {} at the desk.",
        "- {}",
        "We saw {} on {day}.",
        "{}: confirmed",
        "Note for {}: {n}",
    )
    lines = [
        draw.any(forms).format(old, day=draw.any(names.WEEKDAYS), n=draw.whole(2, 99)) for _ in range(draw.whole(1, 4))
    ]
    lines += [remark(draw) for _ in range(draw.whole(1, 4))]
    draw.rng.shuffle(lines)
    text = "\n".join(lines) + "\n"
    if old in new or new in text:
        return replace_text(draw)
    quote = draw.any(("'", '"', "", "'"))
    code = script(
        "from pathlib import Path",
        f"path = Path({path!r})",
        "text = path.read_text()",
        f"path.write_text(text.replace({old!r}, {new!r}))",
        f"print(text.count({old!r}), 'replaced')",
    )

    def play(_: str) -> Play:
        out = yield from compute(code, f"I replace {old} by {new} with a script.")
        return Said(f"The script says {out}.", f"Replaced {old} by {new} in {path}.")

    goal = draw.say(REPLACE, old=f"{quote}{old}{quote}", new=f"{quote}{new}{quote}", file=path)
    return Job(goal, {path: text} | draw.clutter([path]), file_is(path, text.replace(old, new)), play)


def sort_lines(draw: Draw) -> Job:
    """The lines of a file in order, in place or in another file."""
    path = draw.text_path()
    items = _items(draw)
    backwards = draw.chance(0.25)
    target, out = _target(draw, path)
    way = draw.any(("in reverse", "in descending order", "from Z to A", "backwards")) if backwards else ""
    ordered = sorted(items, reverse=backwards)
    more = ", reverse=True" if backwards else ""
    goal = _tidy(draw.say(SORT, file=path, way=way, out=out))
    return _lines_job(draw, goal, path, items, target, ordered, f"lines = sorted(lines{more})", "sort the lines")


def dedupe_lines(draw: Draw) -> Job:
    """Each line of a file once, in the order of first appearance."""
    path = draw.text_path()
    items = _items(draw)
    items += [draw.any(items) for _ in range(draw.whole(1, 4))]
    draw.rng.shuffle(items)
    target, out = _target(draw, path)
    goal = _tidy(draw.say(DEDUPE, file=path, out=out))
    unique = list(dict.fromkeys(items))
    return _lines_job(
        draw, goal, path, items, target, unique, "lines = list(dict.fromkeys(lines))", "keep each line once"
    )


def merge_files(draw: Draw) -> Job:
    """Two or three files after each other in a new one."""
    files: dict[str, str] = {}
    for _ in range(draw.whole(2, 3)):
        files[draw.new_path(list(files), "txt")] = "\n".join(_items(draw, most=5)) + "\n"
    paths = list(files)
    target = draw.new_path(paths, "txt", draw.any(("merged", "all", "combined", "everything", "")))
    spoken = ", ".join(paths[:-1]) + " and " + paths[-1]
    code = script(
        "from pathlib import Path",
        f"paths = [{', '.join(repr(path) for path in paths)}]",
        *([f"Path({target.rpartition('/')[0]!r}).mkdir(parents=True, exist_ok=True)"] if "/" in target else []),
        f"Path({target!r}).write_text(''.join(Path(p).read_text() for p in paths))",
    )

    def play(_: str) -> Play:
        yield Act(f"I join the files into {target} with a script.", "run_python", {"code": code})
        return Said(f"{target} is written.", f"Merged {spoken} into {target}.")

    check = every(file_lines(target, "".join(files.values()).splitlines()), *(file_is(p, t) for p, t in files.items()))
    return Job(draw.say(MERGE, files=spoken, target=target), files | draw.clutter([*paths, target]), check, play)


def pick_line(draw: Draw) -> Job:
    """The first, last or n-th line."""
    path = draw.text_path()
    items = _items(draw) if draw.chance(0.5) else [remark(draw) for _ in range(draw.whole(3, 8))]
    items = list(dict.fromkeys(items))
    number = draw.whole(1, len(items))
    kind = draw.whole(0, 3)
    if kind == 0:
        which, index, number = "the last", "-1", len(items)
    elif kind == 1:
        which, index, number = "the first", "0", 1
    else:
        ordinal = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")
        which, index = f"the {ordinal}", str(number - 1)
    code = script(
        "from pathlib import Path", f"lines = Path({path!r}).read_text().splitlines()", f"print(lines[{index}])"
    )

    def play(_: str) -> Play:
        out = yield from compute(code, f"I print {which} line of {path}.")
        return Said(f"That is {which} line.", out)

    files = {path: "\n".join(items) + "\n"} | draw.clutter([path])
    return Job(draw.say(PICK, which=which, file=path), files, says(items[number - 1]), play)


def _lines_with(draw: Draw, path: str, lines: Sequence[str], word: str) -> Job:
    code = script(
        "from pathlib import Path",
        f"lines = Path({path!r}).read_text().splitlines()",
        f"print(sum({word!r} in line for line in lines))",
    )

    def play(_: str) -> Play:
        out = yield from compute(code, f"I count the lines with {word} in {path}.")
        return Said(f"{out} lines contain {word}.", out)

    spoken = draw.any((word, word, f"'{word}'", f'"{word}"'))
    files = {path: "\n".join(lines) + "\n"} | draw.clutter([path])
    return Job(draw.say(LINES_WITH, word=spoken, file=path), files, says(sum(word in line for line in lines)), play)


def _lines_job(
    draw: Draw, goal: str, path: str, items: Sequence[str], target: str, result: Sequence[str], work: str, what: str
) -> Job:
    code = script(
        "from pathlib import Path",
        f"lines = Path({path!r}).read_text().splitlines()",
        work,
        *(
            [f"Path({target.rpartition('/')[0]!r}).mkdir(parents=True, exist_ok=True)"]
            if "/" in target and target != path
            else []
        ),
        f"Path({target!r}).write_text('\\n'.join(lines) + '\\n')",
        "print(len(lines), 'lines')",
    )

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, f"I {what} with a script.")
        return Said(f"{target} has {out} now.", f"Wrote {out} to {target}.")

    checks = [file_lines(target, result)] + ([file_lines(path, items)] if target != path else [])
    return Job(goal, {path: "\n".join(items) + "\n"} | draw.clutter([path, target]), every(*checks), play)


def _items(draw: Draw, most: int = 9) -> list[str]:
    pool = draw.any((names.PRODUCTS, names.CITIES, names.FIRST, names.WORDS, names.LAST))
    items = draw.some(pool, draw.whole(3, most))
    if draw.chance(0.15):
        items = [draw.code() for _ in items]
    return list(dict.fromkeys(items))


def _target(draw: Draw, path: str) -> tuple[str, str]:
    if draw.chance(0.5):
        return path, draw.any(("", "", "and save it", "in place", "and keep the file name"))
    target = draw.new_path([path], path.rpartition(".")[2], draw.any(("sorted", "clean", "result", "output", "")))
    return target, draw.any(
        (
            f"and (write|save) the result to {target}",
            f"into {target}",
            f"and save it as {target}",
            f"and write it to {target}",
        )
    ).replace("(write|save)", draw.any(("write", "save")))


def _tidy(goal: str) -> str:
    """Without the blanks that empty values leave behind."""
    return " ".join(goal.split()).replace(" .", ".").replace(" ?", "?").replace(" ,", ",")


FAMILIES = (
    Family("count_units", "how many lines, words, characters", count_units, answers=True, weight=1.3),
    Family("count_matches", "how often a word occurs", count_matches, answers=True),
    Family("replace_text", "one text for another in a file", replace_text, weight=1.2),
    Family("sort_lines", "the lines of a file in order", sort_lines),
    Family("dedupe_lines", "each line of a file once", dedupe_lines, weight=0.8),
    Family("merge_files", "several files in one", merge_files, weight=0.8),
    Family("pick_line", "the first, last or n-th line", pick_line, answers=True, weight=0.8),
)
