"""Events as coloured blocks for a terminal: the renderables of `rich` that the live view and `show` print.

Text becomes `Text` or `Syntax`, never a markup string, and has passed `for_terminal`, because `rich` filters nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from agent.sanitize import for_terminal
from agent.types import JSON, Event
from agent.view import lines
from agent.view.progress import Progress, resume_command, show_command

BLOCK_LINES = 16
INDENT = 7
_STATUS_STYLE = {"ok": "green", "error": "red", "refused": "yellow", "invalid": "red", "unknown": "yellow"}


@dataclass(frozen=True)
class Signs:
    """The few signs a view draws, for terminals with and without Unicode."""

    ok: str = "✓"
    bad: str = "✗"
    tool: str = "▸"
    recalled: str = "↺"
    note: str = "!"
    dot: str = "·"


ASCII_SIGNS = Signs(ok="+", bad="x", tool=">", recalled="<", note="!", dot="|")


def blocks(event: Event, progress: Progress, signs: Signs, *, full: bool = False) -> Iterator[RenderableType]:
    """What to print for `event`; `progress` has been fed it. With `full` nothing is shortened."""
    data = event.data
    match event.kind:
        case "session":
            goal = data["goal"]["text"]
            yield Text(for_terminal(goal).strip() if full else _shortened(goal, BLOCK_LINES), style="bold")
            yield Text(f" {signs.dot} ".join(lines.setting(data)), style="dim")
        case "recall":
            for record in data["records"]:
                line = Text(f"{signs.recalled} {lines.one_line(record['text'])}", style="magenta")
                yield _indented(line.append(f"  {lines.origin(record, event.time)}", style="dim"))
        case "action" if data["valid"]:
            yield _numbered(progress, Text(for_terminal(data["thought"] or "").strip(), style="italic"))
            yield _indented(call(data["tool"], data["args"], signs, limit=None if full else BLOCK_LINES))
        case "action":
            yield _numbered(progress, Text("not a valid action: " + lines.one_line(data["error"] or ""), style="red"))
            yield _indented(Text(_shortened(data["text"], 4), style="dim"))
        case "approval" if data["by"] != "mode" or data["decision"] == "refused":
            yield _indented(Text(lines.approval(data), style="yellow" if data["decision"] == "refused" else "dim"))
        case "observation":
            yield _indented(_observation(data, progress, signs, limit=None if full else BLOCK_LINES))
        case "compaction":
            yield _indented(Text(lines.compaction(data), style="dim"))
        case "nudge":
            yield _indented(Text(f"{signs.note} no progress: {lines.one_line(data['reason'], 400)}", style="yellow"))
        case "notice":
            yield Text(f"{signs.note} {lines.one_line(data['text'], 600)}", style="yellow")
        case "interrupt" | "resume":
            yield from (Text(line, style="yellow") for line in lines.lines(event, progress))
        case "end":
            yield closing(data, progress, signs)
        case _:
            return


def call(
    tool: str, args: Mapping[str, JSON], signs: Signs, *, limit: int | None, reveal: bool = False
) -> RenderableType:
    """A tool with its main argument; code and file contents follow as a highlighted block of at most `limit` lines."""
    head = Text(f"{signs.tool} ", style="cyan").append(for_terminal(tool, reveal=reveal), style="bold cyan")
    parts: list[RenderableType] = [head]
    for number, (name, value) in enumerate(args.items()):
        if tool == "finish" and not reveal:
            continue  # the answer is shown once, at the end
        text = for_terminal(lines.main_argument({name: value}), reveal=reveal)
        if "\n" in text.strip() or name == "code" or len(text) > 100:
            parts.append(Padding(code(text.rstrip("\n"), _lexer(name, args), limit), (0, 0, 0, 2)))
        else:
            text = text.strip("\n")
            head.append(f" {text}" if number == 0 else f"  {for_terminal(name, reveal=reveal)}={text}")
    if tool == "edit_file" and isinstance(args.get("old"), str) and isinstance(args.get("new"), str):
        changes = _changes(for_terminal(args["old"], reveal=reveal), for_terminal(args["new"], reveal=reveal))
        head = Text(f"{signs.tool} ", style="cyan").append("edit_file", style="bold cyan")
        head.append(f" {for_terminal(str(args.get('path', '')), reveal=reveal)}")
        parts = [head, Padding(code(changes, "diff", limit), (0, 0, 0, 2))]
    return Group(*parts)


def code(text: str, lexer: str, limit: int | None) -> RenderableType:
    """Highlighted text of at most `limit` lines, with a line that says how many more there are."""
    rows = text.split("\n")
    kept = rows if limit is None or len(rows) <= limit else rows[: limit - 1]
    syntax = Syntax("\n".join(kept), lexer, theme="ansi_dark", background_color="default", word_wrap=True)
    return syntax if kept is rows else Group(syntax, Text(f"... {len(rows) - len(kept)} more lines", style="dim"))


def closing(data: Mapping[str, JSON], progress: Progress, signs: Signs) -> RenderableType:
    """How it ended: ending, check, files, and the commands to look closer and to go on."""
    good = data["ending"] == "finished"
    head = Text(f"{signs.ok if good else signs.bad} {lines.ending(data)}", style="bold green" if good else "bold red")
    head.append(f"  {lines.totals(data)}", style="not bold dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    if data.get("check"):
        passed = data["check"]["passed"]
        detail = lines.one_line(data["check"]["detail"], 400)
        table.add_row(
            "check", Text(f"{'passed' if passed else 'failed'}: {detail}", style="green" if passed else "red")
        )
    if data.get("files"):
        table.add_row("changed", Text(", ".join(for_terminal(name) for name in data["files"])))
    table.add_row("look closer", Text(for_terminal(show_command(data, progress))))
    if resume := resume_command(data, progress):
        table.add_row("go on", Text(for_terminal(resume)))
    return Group(Text(), head, Padding(table, (0, 0, 0, 2)))


def answer_block(answer: JSON) -> RenderableType:
    """The answer as a person reads it."""
    return Group(Text(), Text(lines.answer_text(answer)))


def _observation(data: Mapping[str, JSON], progress: Progress, signs: Signs, *, limit: int | None) -> RenderableType:
    good = data["status"] == "ok"
    style = _STATUS_STYLE.get(data["status"], "red")
    head = Text().append(f"{signs.ok if good else signs.bad} ", style=style)
    if not good:
        head.append(f"{data['status']} ", style=f"bold {style}")
    spent = Text(f"  {progress.spent}", style="dim")
    if data.get("ends"):
        return head.append("done").append_text(spent)
    text = for_terminal(lines.result(data)).strip("\n").expandtabs(4)
    rows = text.split("\n")
    if len(rows) == 1:
        return head.append(text if limit is None else lines.one_line(text, 400)).append_text(spent)
    cut = ", cut short for the model" if data.get("truncated") else ""
    head.append(f"{len(rows)} lines{cut}", style="dim").append_text(spent)
    shown = code(text, _lexer("text", progress.args), None if limit is None else max(4, limit // 2))
    return Group(head, Padding(shown, (0, 0, 0, 2)))


def _numbered(progress: Progress, text: Text) -> RenderableType:
    row = Table.grid(padding=0)
    row.add_column(width=INDENT)
    row.add_column(overflow="fold")
    row.add_row(Text(f"{progress.current:>{INDENT - 2}}", style="bold"), text)
    return Group(Text(), row)


def _indented(block: RenderableType) -> RenderableType:
    return Padding(block, (0, 0, 0, INDENT))


def _lexer(argument: str, args: Mapping[str, JSON]) -> str:
    """The pygments lexer for an argument (or for the result of an action with these arguments)."""
    if argument == "code":
        return "python"
    path = args.get("path")
    if argument in ("content", "text") and isinstance(path, str):
        return Syntax.guess_lexer(path)
    return "text"


def _changes(old: str, new: str) -> str:
    return "\n".join(list(difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=2))[2:])


def _shortened(text: str, limit: int) -> str:
    rows = for_terminal(text).strip().split("\n")
    return "\n".join(rows[:limit] + ([f"... {len(rows) - limit} more lines"] if len(rows) > limit else []))
