# ruff: noqa: E501
"""Families of everyday requests: small scripts, folders, lines marked as things to do."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, script, write
from agent.learning.curriculum.checks import file_is, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("everyday")
SCRIPT = _SAID["script"]
RUN = _SAID["run"]
FOLDER = _SAID["folder"]
INTO = _SAID["into"]
MARKS = _SAID["marks"]


def small_script(draw: Draw) -> Job:
    """A script that prints a given text, written and run; in training also one that is there."""
    if draw.split == "train" and draw.chance(0.5):
        return _script_there(draw)
    text = draw.any(
        (
            "Hello, world!",
            "hello",
            "Hello World",
            draw.pick(names.WORDS),
            f"{draw.pick(names.WORDS)} {draw.whole(2, 99)}",
            draw.code(),
        )
    )
    path = draw.new_path([], "py", draw.any(("hello", "main", "script", "test", "app", draw.pick(names.WORDS))))
    quoted = draw.any((f"'{text}'", f'"{text}"', text if " " not in text else f"'{text}'"))
    code = f"exec(open({path!r}).read())"

    def play(_: str) -> Play:
        yield from write(path, f"print({text!r})\n", f"I write the script {path}.")
        out = yield from compute(code, f"I run {path} to test it.")
        return Said(f"It prints {out}.", f"Wrote {path}; it prints {out}.")

    judge = script(
        "import contextlib, io, runpy",
        "out = io.StringIO()",
        "with contextlib.redirect_stdout(out):",
        f"    runpy.run_path({path!r}, run_name='__main__')",
        f"assert out.getvalue().strip() == {text!r}",
    )
    return Job(draw.say(SCRIPT, file=path, text=quoted), draw.clutter([path]), {"python": judge}, play)


def _script_there(draw: Draw) -> Job:
    """A script that is there to be run, which prints something, or ends in an error."""
    path = draw.path("py", draw.any(("main", "check", "job", "report", "run", draw.pick(names.WORDS))))
    files, source, printed, error = _ready_script(draw, path)

    def play(_: str) -> Play:
        seen = yield Act(f"I run {path}.", "run_python", {"code": f"exec(open({path!r}).read())"})
        if error:
            line = next(line for line in reversed(seen.text.splitlines()) if "Error" in line)
            return Said(f"{path} ends in an error.", f"{path} does not run: {line}")
        return Said(f"{path} ran, this is what it printed.", printed)

    files = {**files, path: "\n".join(source) + "\n"}
    return Job(draw.say(RUN, file=path), files | draw.clutter(list(files)), says(error or printed), play)


def _ready_script(draw: Draw, path: str) -> tuple[dict[str, str], list[str], str, str]:
    """Files that a script reads, its lines, what it prints, and the error it ends in."""
    word, other, n, k = draw.pick(names.WORDS), draw.pick(names.WORDS), draw.whole(3, 60), draw.whole(2, 9)
    numbers = [draw.whole(1, 90) for _ in range(draw.whole(3, 6))]
    kind = draw.whole(0, 7)
    if kind == 0:
        return {}, [f"print({word!r})", f"print({n * k})"], f"{word}\n{n * k}", ""
    if kind == 1:
        lines = [f"{word} = {numbers}", f"print('total:', sum({word}))"]
        return {}, lines, f"total: {sum(numbers)}", ""
    if kind == 2:
        lines = [
            f"def {word}(n):",
            f"    return n * {k}",
            "",
            "",
            "if __name__ == '__main__':",
            f"    print({word}({n}))",
        ]
        return {}, lines, str(n * k), ""
    if kind == 3:
        lines = [
            "count = 0",
            f"for n in range({n}):",
            f"    if n % {k} == 0:",
            "        count += 1",
            "print(count, 'found')",
        ]
        return {}, lines, f"{len(range(0, n, k))} found", ""
    if kind == 4:
        data = draw.new_path([path], "txt", word)
        text = "".join(f"{remark(draw)}\n" for _ in range(k))
        return {data: text}, ["from pathlib import Path", "", f"lines = Path({data!r}).read_text().splitlines()", f"print(len(lines), 'lines in {data}')"], f"{k} lines in {data}", ""  # fmt: skip
    if kind == 5:
        name, answer = draw.person(), draw.value()
        lines = [f"name = {name!r}", f"result = {answer!r}", "print(f'Dear {name}: {result}')"]
        return {}, lines, f"Dear {name}: {answer}", ""
    if kind == 6:
        return {}, [f"print('{word} starts')", f"print({other} + 1)"], "", f"name '{other}' is not defined"
    return {}, [f"values = {numbers}", f"values.append({n})", "print(max(values) - min(values))"], str(max(*numbers, n) - min(*numbers, n)), ""  # fmt: skip


def folders(draw: Draw) -> Job:
    """A new folder, or a file in one."""
    folder = draw.any(
        (draw.pick(names.FOLDERS), draw.pick(names.WORDS), f"{draw.pick(names.WORDS)}_{draw.whole(1, 30)}")
    )
    if draw.chance(0.5):
        code = script(
            "from pathlib import Path",
            f"Path({folder!r}).mkdir(parents=True, exist_ok=True)",
            f"print(Path({folder!r}).is_dir())",
        )

        def make(_: str) -> Play:
            out = yield from compute(code, f"I make the folder {folder} with Python.")
            return Said(f"Python says {out}.", f"Created the folder {folder}.")

        judge = f"import os\nassert os.path.isdir({folder!r})"
        return Job(draw.say(FOLDER, folder=folder), draw.clutter([]), {"python": judge}, make)
    name = draw.any(("notes.txt", "readme.md", "a.txt", f"{draw.pick(names.WORDS)}.txt"))
    text = draw.any((remark(draw), draw.pick(names.WORDS), draw.code()))
    path = f"{folder}/{name}"

    def play(_: str) -> Play:
        yield from write(path, text, f"I write {path}, the folder is made with it.")
        return Said(f"{path} is written.", f"Wrote {path}.")

    return Job(draw.say(INTO, folder=folder, file=name, text=f"'{text}'"), draw.clutter([]), file_is(path, text), play)


def marked_lines(draw: Draw) -> Job:
    """The lines that hold a mark such as TODO, with file and number."""
    word = draw.any(("TODO", "FIXME", "NOTE", "DONE", "URGENT"))
    files: dict[str, str] = {}
    wanted: list[str] = []
    for _ in range(draw.whole(2, 4)):
        path = draw.new_path(list(files), draw.any(("py", "txt", "md")))
        lines = [
            remark(draw) if not path.endswith(".py") else f"{draw.pick(names.WORDS)} = {draw.whole(1, 99)}"
            for _ in range(draw.whole(2, 4))
        ]
        if draw.chance(0.6) or not wanted:
            task = f"{draw.any(('check', 'order', 'paint', 'update', 'remove'))} the {draw.pick(names.PRODUCTS)}"
            lines.insert(draw.whole(0, len(lines)), f"{'# ' if path.endswith('.py') else ''}{word}: {task}")
            wanted.append(task)
        files[path] = "\n".join(lines) + "\n"

    def play(_: str) -> Play:
        seen = yield Act(f"I search all files for {word}.", "search_files", {"pattern": word})
        return Said(f"These lines have {word}.", seen.text)

    return Job(draw.say(MARKS, word=word), files, says(*wanted), play)


FAMILIES = (
    Family("small_script", "a script that prints a text", small_script, weight=1.3),
    Family("folders", "a new folder, a file in it", folders, weight=1.1),
    Family("marked_lines", "lines with TODO and the like", marked_lines, chains=False, weight=0.7),
)
