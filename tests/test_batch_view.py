"""What is shown of a running batch: counts, speed, time left, and no text that commands the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from agent.batch.progress import BatchProgress
from agent.batch.results import Result
from agent.goalfile import GoalRow
from agent.types import Event, Goal
from agent.view.batch import LiveBatchView, PlainBatchView, result_line, standing_line


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def action(step: int, tool: str, tokens: int) -> Event:
    return Event(step, "action", 0.0, {"step": step, "tool": tool, "usage": {"forced": 1, "sampled": tokens - 1}})


def test_the_standing_counts_what_runs_what_is_done_and_what_is_left() -> None:
    clock = Clock()
    progress = BatchProgress(10, clock=clock)
    progress.result(Result("kept", "finished"))
    progress.event("a", action(1, "read_file", 30))
    progress.event("b", action(1, "run_python", 60))
    clock.now += 10
    progress.result(Result("a", "finished", steps=1, tokens=30))
    progress.event("b", Event(2, "observation", 0.0, {}))
    standing = progress.standing()
    assert (standing.done, standing.succeeded, standing.fresh, standing.seconds) == (2, 2, 1, 10)
    assert [(r.id, r.step, r.doing) for r in standing.running] == [("b", 1, "thinks")]
    assert standing.tokens_per_second == 9
    assert standing.left == 80  # ten seconds for each of the eight that are left; the kept one took no time
    assert standing_line(standing) == "running 1, done 2 of 10, failed 0, stuck 0, 9 tokens/s, about 80 s left"
    clock.now += 60
    assert progress.standing().tokens_per_second == 0


def test_what_ran_elsewhere_counts_its_tokens_when_it_ends() -> None:
    clock = Clock()
    progress = BatchProgress(3, clock=clock)
    progress.event("a", Event(0, "sent", 0.0, {"node": "there"}))
    progress.event("b", action(1, "read_file", 20))
    clock.now += 10
    progress.result(Result("kept", "finished", tokens=500))
    progress.result(Result("a", "finished", tokens=80))
    progress.result(Result("b", "finished", tokens=20))
    assert progress.standing().tokens_per_second == 10


def test_failed_and_stuck_goals_are_counted_apart() -> None:
    progress = BatchProgress(4)
    for result in (Result("a", "stuck"), Result("b", "failed_check"), Result("c", "finished")):
        progress.result(result)
    assert "failed 1, stuck 1" in standing_line(progress.standing())


def test_a_line_says_why_a_goal_failed_and_cannot_command_the_terminal() -> None:
    progress = BatchProgress(200)
    result = Result("a\x1b[2J\nb", "failed_check", reason="the check\x1b]0;x\x07 failed", steps=1, tokens=5, seconds=2)
    progress.result(result)
    line = result_line(result, progress.standing())
    assert line.startswith("[  1/200] failed check  a | b  1 step, 5 tokens, 2.0 s: the check failed")
    assert "\x1b" not in line
    stream = io.StringIO()
    PlainBatchView(stream, progress).note("left\x1b[2J out")
    assert stream.getvalue() == "left out\n"


def test_the_live_table_shows_the_running_goals_and_goes_away() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    view = LiveBatchView(console, BatchProgress(3))
    view.event(GoalRow("summing", Goal("x")), action(4, "run_python", 9))
    view.result(Result("bad[red]", "stuck", reason="no progress"))
    console.print(view.table())
    view.close()
    shown = stream.getvalue()
    assert "summing" in shown
    assert "run_python" in shown
    assert "[1/3] stuck         bad[red]" in shown
    assert "running 1, done 1 of 3, failed 0, stuck 1" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    assert shown.endswith("\x1b[2K")  # the table's last line is wiped
