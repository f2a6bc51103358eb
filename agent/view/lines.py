"""Events as plain lines of text: what a log file, a pipe or a terminal without a cursor gets.

Everything here has passed `for_terminal`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.sanitize import for_terminal
from agent.types import JSON, Event, ago
from agent.view.progress import Progress, resume_command, seconds, show_command

LINE_CHARS = 160


def lines(event: Event, progress: Progress) -> Iterator[str]:
    """The lines that tell of `event`; `progress` has been fed it. An event nobody needs to see gives none."""
    data = event.data
    match event.kind:
        case "session":
            yield f"session {for_terminal(str(data['session']))}: {one_line(data['goal']['text'], 400)}"
            yield "with " + ", ".join(setting(data))
        case "recall":
            for record in data["records"]:
                yield f"[{progress.upcoming}] recalled {origin(record, event.time)}: {one_line(record['text'])}"
        case "action" if data["valid"]:
            yield f"[{progress.current}] thought: {one_line(data['thought'] or '', 400)}"
            yield f"[{progress.current}] {for_terminal(data['tool'])} {one_line(main_argument(data['args']))}".rstrip()
        case "action":
            yield f"[{progress.current}] not a valid action: {one_line(data['error'] or data['text'])}"
        case "approval" if data["by"] != "mode" or data["decision"] == "refused":
            yield f"[{progress.current}] {approval(data)}"
        case "observation":
            yield f"[{progress.current}] {data['status']}: {one_line(result(data))} ({progress.spent})"
        case "compaction":
            yield f"[{progress.upcoming}] {compaction(data)}"
        case "nudge":
            yield f"[{progress.current}] no progress: {one_line(data['reason'])}; the model was told"
        case "notice":
            yield f"note: {one_line(data['text'], 600)}"
        case "interrupt":
            yield "stopping after this step; press Ctrl-C again to stop at once"
        case "resume":
            yield f"resumed at step {data['step']}"
        case "end":
            yield from end_lines(data, progress)
        case _:
            return


def end_lines(data: Mapping[str, JSON], progress: Progress) -> Iterator[str]:
    """The closing lines: ending, check, files, and the commands to look closer and to go on."""
    yield f"{ending(data)} ({totals(data)})"
    if data.get("check"):
        yield f"check {'passed' if data['check']['passed'] else 'failed'}: {one_line(data['check']['detail'], 400)}"
    if data.get("files"):
        yield "changed: " + ", ".join(for_terminal(name) for name in data["files"])
    yield f"look closer: {for_terminal(show_command(data, progress))}"
    if resume := resume_command(data, progress):
        yield f"go on: {for_terminal(resume)}"


def setting(header: Mapping[str, JSON]) -> list[str]:
    """What the session runs on, in a few words each: model, sandbox, memory, workspace."""
    policy, sandbox = header["policy"], header["sandbox"]
    model = " ".join(str(policy[key]) for key in ("name", "dtype", "device") if policy.get(key))
    adapter = f"adapter {policy['adapter']}" if policy.get("adapter") else "no adapter"
    reduced = " (reduced)" if sandbox["reduced"] else ""
    parts = [
        model or "an unnamed model",
        adapter,
        f"sandbox {sandbox['rung']}{reduced}",
        "memory on" if header["memory"] else "memory off",
        f"workspace {header['workspace']}",
    ]
    return [for_terminal(part) for part in parts]


def one_line(text: str, width: int = LINE_CHARS) -> str:
    """The lines that say something, joined by bars, as far as `width` goes, and how many more there are."""
    rows = [row.strip() for row in for_terminal(text).expandtabs(4).split("\n")]
    rows = [row for row in rows if row] or [""]
    shown = rows[0]
    for number, row in enumerate(rows[1:], start=1):
        if len(shown) + len(row) + 3 > width:
            return f"{_clipped(shown, width)} (+{len(rows) - number} lines)"
        shown += f" | {row}"
    return _clipped(shown, width)


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def main_argument(args: Mapping[str, JSON]) -> str:
    """The value of the first argument, which is the one that says what an action is about."""
    value = next(iter(args.values()), "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def result(data: Mapping[str, JSON]) -> str:
    """The text of an observation; for the one that ends the session, its answer."""
    if data.get("ends"):
        return f"answer: {answer_text(data.get('value'))}"
    text = data["text"] or "(nothing)"
    return f"{text} [cut]" if data.get("truncated") and "\n" not in text else text


def answer_text(answer: Any) -> str:
    """An answer as a terminal shows it: text as it is, anything else as JSON that still parses."""
    if isinstance(answer, str):
        return for_terminal(answer)
    text = json.dumps(answer, ensure_ascii=False)
    return text if for_terminal(text) == text else json.dumps(answer)


def origin(record: Mapping[str, JSON], now: float | None = None) -> str:
    """Where a recalled record comes from: `note (model, session 20261121-..., step 3, 2 days ago)`.

    The age is told where `now` (Unix time) says when it was recalled.
    """
    place = f"{record['kind']} ({record['origin']}, session {record['session']}, step {record['step']}"
    if now is None or "created" not in record:
        return for_terminal(f"{place})")
    return for_terminal(f"{place}, {ago(now - record['created'])})")


def approval(data: Mapping[str, JSON]) -> str:
    by = {"user": "you", "rule": f"rule {data['rule']}", "mode": f"mode {data['rule']}"}[data["by"]]
    comment = f": {one_line(data['comment'])}" if data["comment"] else ""
    return for_terminal(f"{data['decision']} by {by}") + comment


def compaction(data: Mapping[str, JSON]) -> str:
    steps = ", ".join(str(step) for step in data["steps"])
    return f"shortened step {steps} in the prompt: {data['tokens_before']} -> {data['tokens_after']} tokens"


def ending(data: Mapping[str, JSON]) -> str:
    """`out of steps: the limit of 20 steps is reached`; a plain finish needs no reason."""
    name = str(data["ending"]).replace("_", " ")
    return name if name == "finished" else f"{name}: {one_line(data['reason'], 400)}"


def totals(data: Mapping[str, JSON]) -> str:
    plural = "" if data["steps"] == 1 else "s"
    return f"{data['steps']} step{plural}, {data['tokens']} tokens, {seconds(data['seconds'])}"
