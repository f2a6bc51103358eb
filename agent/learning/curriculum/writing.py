# ruff: noqa: E501
"""Families that write: given content, a line more, another setting; copies, new names, deletions."""

from __future__ import annotations

import json
import re

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script, write
from agent.learning.curriculum.checks import every, file_is, file_says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark, written
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("writing")
WRITE = _SAID["write"]
WRITE_LINES = _SAID["write_lines"]
APPEND = _SAID["append"]
CHANGE = _SAID["change"]
COPY = _SAID["copy"]
RENAME = _SAID["rename"]
DELETE = _SAID["delete"]


def write_given(draw: Draw) -> Job:
    """A file with content that the goal gives."""
    extension = draw.any(("txt", "txt", "txt", "md", "json", "log", "py", "csv"))
    path = draw.path(extension, draw.any(("", "", draw.pick(names.WORDS), "hello", "output", "result", "note")))
    clutter = draw.clutter([path])
    if draw.chance(0.25) and extension in ("txt", "md", "log"):
        items = draw.some(draw.any((names.PRODUCTS, names.CITIES, names.FIRST, names.COLOURS)), draw.whole(2, 5))
        if draw.chance(0.3):
            items = [draw.code() for _ in items]
        spoken = draw.any((", ".join(items), ", ".join(items[:-1]) + " and " + items[-1]))
        return _writing(draw.say(WRITE_LINES, text=spoken, file=path), path, "\n".join(items) + "\n", clutter)
    text = _content(draw, extension)
    if draw.split == "train" and extension in ("txt", "md") and " " in text and draw.chance(0.3):
        # A file named after the first word of what it is to hold: the name must not stand in for the text.
        path = f"{re.sub(r'[^a-z]', '', text.split()[0].lower()) or 'note'}.{extension}"
        clutter = draw.clutter([path])
    quoted = f"'{text}'" if "'" not in text and draw.chance(0.5) else f'"{text}"'
    if extension == "json" or (draw.chance(0.25) and " " not in text):
        quoted = text
    return _writing(draw.say(WRITE, text=quoted, file=path), path, text, clutter)


def append_line(draw: Draw) -> Job:
    """One more line at the end of a file."""
    path = draw.text_path()
    lines = [remark(draw) for _ in range(draw.whole(1, 6))]
    if draw.chance(0.5):
        lines = draw.some(draw.any((names.PRODUCTS, names.CITIES, names.FIRST)), draw.whole(2, 7))
    text = draw.any(
        (
            remark(draw),
            draw.value(),
            draw.pick(names.PRODUCTS),
            f"{draw.pick(names.WORDS)}: {draw.code()}",
            draw.person(),
        )
    )
    spoken = draw.any((f"'{text}'", f'"{text}"', f"'{text}'", text if len(text.split()) < 3 else f"'{text}'"))
    code = f"print({text!r}, file=open({path!r}, 'a'))"

    def play(_: str) -> Play:
        yield from compute(code, f"I append the line to {path} with a script.")
        return Said(f"The line is at the end of {path}.", f"Added {text} to {path}.")

    check = file_is(path, "\n".join([*lines, text]))
    return Job(
        draw.say(APPEND, text=spoken, file=path), {path: "\n".join(lines) + "\n"} | draw.clutter([path]), check, play
    )


def change_setting(draw: Draw) -> Job:
    """Another value for a setting."""
    form = draw.any(("ini", "yaml", "toml", "env", "json"))
    keys = draw.some(names.SETTINGS, draw.whole(3, 7))
    half = draw.whole(1, len(keys) - 1)
    first, second = draw.some(names.SECTIONS, 2)
    tree = {first: {key: draw.value() for key in keys[:half]}, second: {key: draw.value() for key in keys[half:]}}
    section = draw.any((first, second))
    key = draw.any(list(tree[section]))
    old, new = tree[section][key], draw.any((draw.code(), draw.value(), str(draw.whole(1, 9999))))
    if old == new:
        return change_setting(draw)
    path = draw.path(form, draw.any(("config", "settings", "app", "service")))
    before = written(tree, form)
    tree[section][key] = new
    after = written(tree, form)
    changed = next((a, b) for a, b in zip(before.split("\n"), after.split("\n"), strict=True) if a != b)
    name = f"{section}_{key}".upper() if form == "env" else key if draw.chance(0.7) else key.replace("_", " ")

    def play(_: str) -> Play:
        yield from read(path)
        args = {"path": path, "old": changed[0].strip().rstrip(","), "new": changed[1].strip().rstrip(",")}
        yield Act(f"I change {key} from {old} to {new}.", "edit_file", args)
        return Said(f"{key} is {new} now.", f"Set {name} to {new} in {path}.")

    if before.count(changed[0].strip().rstrip(",")) > 1:
        return change_setting(draw)
    goal = draw.say(CHANGE, key=name, value=new, file=path)
    return Job(goal, {path: before} | draw.clutter([path]), file_is(path, after), play)


def move_file(draw: Draw) -> Job:
    """A copy, another name, or a deletion."""
    path = draw.path(draw.any(("txt", "md", "csv", "json", "log")))
    text = draw.filler(path)
    files = {path: text} | draw.clutter([path])
    kind = draw.any(("copy", "rename", "delete"), ("rename",))
    target = draw.new_path(list(files), path.rpartition(".")[2])
    if draw.chance(0.3) and kind != "delete":
        target = f"{draw.pick(names.FOLDERS)}/{path.rpartition('/')[2]}"
        if target in files:
            return move_file(draw)
    folder = target.rpartition("/")[0]
    made = [f"Path({folder!r}).mkdir(parents=True, exist_ok=True)"] if folder else []
    gone: dict[str, object] = {"file": path, "exists": False}
    if kind == "copy":
        lines = (
            ["import shutil", "from pathlib import Path", *made, f"shutil.copy({path!r}, {target!r})"]
            if made
            else ["import shutil", f"shutil.copy({path!r}, {target!r})"]
        )
        goal, check = draw.say(COPY, file=path, target=target), every(file_is(path, text), file_is(target, text))
        done = f"Copied {path} to {target}."
    elif kind == "rename":
        lines = ["from pathlib import Path", *made, f"Path({path!r}).rename({target!r})"]
        goal, check = draw.say(RENAME, file=path, target=target), every(dict(gone), file_is(target, text))
        done = f"Renamed {path} to {target}."
    else:
        lines = ["from pathlib import Path", f"Path({path!r}).unlink()"]
        goal, check, done = draw.say(DELETE, file=path), dict(gone), f"Deleted {path}."
    verb = {"copy": "copy", "rename": "rename", "delete": "delete"}[kind]

    def play(_: str) -> Play:
        yield Act(f"I {verb} {path} with a script.", "run_python", {"code": script(*lines)})
        return Said("The script ran without an error.", done)

    return Job(goal, files, check, play)


def _writing(goal: str, path: str, text: str, clutter: dict[str, str]) -> Job:
    def play(_: str) -> Play:
        yield from write(path, text, f"I write the text to {path}.")
        return Said(f"{path} is written.", f"Wrote {path}.")

    return Job(goal, clutter, file_is(path, text), play)


def _content(draw: Draw, extension: str) -> str:
    if extension == "json":
        keys = draw.some(names.SETTINGS, draw.whole(1, 3))
        return json.dumps({key: draw.any((draw.whole(1, 500), draw.code(), draw.pick(names.COLOURS))) for key in keys})
    if extension == "py":
        return draw.any(
            (
                f"print({draw.pick(names.WORDS)!r})",
                f"{draw.pick(names.WORDS)} = {draw.whole(1, 999)}",
                f"import {draw.any(('os', 'sys', 'json', 'math'))}",
            )
        )
    if extension == "csv":
        return ",".join(draw.some(names.WORDS, 3))
    kind = draw.whole(0, 6)
    if kind == 0:
        return draw.any(
            ("hello", "hello world", "Hello, world!", "done", "OK", "yes", "test", "Good morning", "it works")
        )
    if kind == 1:
        return remark(draw)
    if kind == 2:
        return f"{draw.pick(names.WORDS)} {draw.pick(names.ANIMALS)}"
    if kind == 3:
        return f"Meeting with {draw.person()} on {draw.any(names.WEEKDAYS)} at {draw.whole(8, 18)}:{draw.any(('00', '15', '30'))}"
    if kind == 4:
        return f"{draw.any(('Buy', 'Call', 'Order', 'Check'))} {draw.pick(names.PRODUCTS)} {draw.whole(2, 99)}"
    return draw.value()


def saved(path: str, value: object) -> dict[str, object]:
    """The check that a value stands in a file."""
    return file_says(path, value)


FAMILIES = (
    Family("write_given", "a file with given content", write_given, weight=2.0),
    Family("append_line", "a line at the end of a file", append_line),
    Family("change_setting", "another value for a setting", change_setting, weight=1.2),
    Family("move_file", "copy, rename or delete a file", move_file, weight=2.4),
)
