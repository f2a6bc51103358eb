"""The live view shows every step, cannot be commanded by what it shows, and leaves the terminal as it was."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from rich.console import Console

from agent.types import Event
from agent.view.live import LiveView
from agent.view.stream import partial_action
from tests.shown_session import SESSION, Session, hostile_session, whole_session

RICH = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\r")


def console(width: int = 140) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, height=40, highlight=False, markup=False), out


def played(events: list[Event], **options: bool) -> str:
    terminal, out = console()
    view = LiveView(terminal, **options)
    for event in events:
        view.event(event)
    view.close()
    return out.getvalue()


def words(output: str) -> str:
    return RICH.sub("", output)


def test_a_person_sees_every_part_of_a_session() -> None:
    shown = words(played(whole_session()))
    for part in (
        "Add up the prices",
        "starter int8 cpu",
        "sandbox bubblewrap",
        "prices.csv has a header line",  # what was recalled
        "note (model, session 20261121-090000-000001, step 3, 2 days ago)",  # where it came from, and when
        " 1/20",
        "I should look at the file first.",
        "read_file prices.csv",
        "bolt,12",
        "with open('prices.csv') as file:",
        "exit status 0",
        "write_file sum.txt",
        "42 of 8000 tokens",
        "168 of 8000 tokens",
        "no progress: the same action twice",
        "finished",
        "passed: sum.txt contains '42'",
        "changed      sum.txt",
        f"python -m agent show {SESSION}",
    ):
        assert part in shown, part
    assert "allowed by mode" not in shown


def test_code_is_highlighted() -> None:
    assert re.search(r"\x1b\[[0-9;]+mimport\x1b\[0m", played(whole_session()))


def test_what_it_shows_cannot_command_the_terminal() -> None:
    for options in ({}, {"animate": False, "full": True, "show_answer": True}):
        shown = words(played(hostile_session(), **options))
        assert "[/nope][bold]" in shown
        assert [c for c in shown if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs"}] == []


def test_the_cursor_is_back_after_closing_in_the_middle() -> None:
    terminal, out = console()
    view = LiveView(terminal)
    view.event(whole_session()[0])
    view.text('{"thought": "half')
    view.close()
    view.close()
    assert out.getvalue().rstrip().endswith("\x1b[?25h") or out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind(
        "\x1b[?25l"
    )


def test_an_event_that_nobody_needs_to_see_leaves_the_spinner_on() -> None:
    terminal, out = console()
    view = LiveView(terminal)
    view.event(whole_session()[0])
    view.event(Event(1, "workspace", 0.0, {"files": {}}))
    assert out.getvalue().rfind("\x1b[?25l") > out.getvalue().rfind("\x1b[?25h")
    view.close()


def test_the_thought_is_shown_while_it_is_written() -> None:
    terminal, _ = console()
    view = LiveView(terminal)
    view.event(hostile_session()[0])
    for piece in (
        '{"thou',
        'ght": "Look at the ',
        "bill",
        's\x1b[2J\\u001b]52;c;", "tool": "read_file',
        '", "args": {"path": "a\\u009b31m.tx',
    ):
        view.text(piece)
    with terminal.capture() as captured:
        terminal.print(view._now())  # pyright: ignore[reportPrivateUsage]
    view.close()
    assert "Look at the bills" in words(captured.get())
    assert "read_file a.tx" in words(captured.get())
    assert [c for c in words(captured.get()) if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs"}] == []


def test_an_action_that_was_asked_about_is_not_shown_twice() -> None:
    terminal, out = console()
    view = LiveView(terminal)
    session = Session()
    view.event(session.events[0])
    view.event(session.action(1, "t", "write_file", {"path": "a.txt", "content": "x"}))
    view.hand_over()  # the asker shows the action itself
    session.approval(1, by="user", rule="")
    view.event(session.events[-1])
    view.close()
    assert "write_file" not in words(out.getvalue()).replace("running write_file", "")
    assert "allowed by you" in out.getvalue()


def test_a_long_result_is_cut_on_the_screen_and_whole_with_full() -> None:
    session = Session()
    session.action(1, "t", "read_file", {"path": "a.txt"})
    session.approval(1)
    session.observation(1, "\n".join(f"line {n}" for n in range(100)), truncated=True)
    short, whole = words(played(session.events)), words(played(session.events, animate=False, full=True))
    assert "100 lines, cut short for the model" in short
    assert "line 99" not in short
    assert "more lines" in short
    assert "line 99" in whole


def test_the_answer_is_shown_only_where_it_is_not_printed_anyway() -> None:
    assert "The sum is 42." not in words(played(whole_session()))
    assert words(played(whole_session(), show_answer=True)).rstrip().endswith("The sum is 42.")


def test_a_terminal_without_unicode_gets_ascii_signs() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace", write_through=True)
    view = LiveView(Console(file=out, force_terminal=True, width=100, highlight=False))
    for event in whole_session():
        view.event(event)
    view.close()
    shown = RICH.sub("", raw.getvalue().decode())
    assert "> read_file prices.csv" in shown
    assert "\\" not in shown


@pytest.mark.parametrize(
    "text", ['{"thought": "a \\"q\\" \\u00e9 \\ud83d\\ude00 \\\\u12", "tool": "run_python", "args": {"code": "x"}}']
)
def test_every_beginning_of_an_action_can_be_read(text: str) -> None:
    thought = 'a "q" é 😀 \\u12'
    for end in range(len(text) + 1):
        action = partial_action(text[:end])
        assert thought.startswith(action.thought), text[:end]
        assert "run_python".startswith(action.tool)
    whole = partial_action(text)
    assert (whole.thought, whole.tool, whole.args) == (thought, "run_python", '{"code": "x"}}')
    assert whole.argument == "x"


def test_thinking_is_told_from_the_action() -> None:
    assert partial_action("<think>Hm {a").thinking == "Hm {a"
    action = partial_action('<think>Hm {"thought": "no"}</think>\n{"thought": "yes')
    assert (action.thinking, action.thought) == ('Hm {"thought": "no"}', "yes")
    assert partial_action("no json at all").thinking == "no json at all"
    assert partial_action("").thought == ""
