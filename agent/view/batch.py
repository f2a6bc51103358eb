"""How a batch is shown while it runs: a live table, one line for each goal that ended, or one JSON object for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol, TextIO

from agent.batch.progress import BatchProgress, Standing
from agent.batch.results import Result
from agent.goalfile import GoalRow
from agent.types import Ending, Event
from agent.view.lines import one_line
from agent.view.progress import seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SHOWN_GOALS = 12
REFRESH_PER_SECOND = 4


class BatchView(Protocol):
    """What watches a batch. `event` is called in the goals' threads, the others in the main one."""

    def event(self, row: GoalRow, event: Event) -> None: ...

    def result(self, result: Result) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class PlainBatchView:
    """One line for each goal that ended."""

    def __init__(self, stream: TextIO, progress: BatchProgress) -> None:
        self._stream = stream
        self._progress = progress

    def event(self, row: GoalRow, event: Event) -> None:
        self._progress.event(row.id, event)

    def result(self, result: Result) -> None:
        self._progress.result(result)
        print(result_line(result, self._progress.standing()), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        print(one_line(text, 400), file=self._stream, flush=True)

    def close(self) -> None:
        self._stream.flush()


class JsonBatchView:
    """`{"event": "result", ...}` for each goal that ended, `{"event": "notice", "text": ...}` for what else is said."""

    def __init__(self, stream: TextIO, progress: BatchProgress) -> None:
        self._stream = stream
        self._progress = progress

    def event(self, row: GoalRow, event: Event) -> None:
        self._progress.event(row.id, event)

    def result(self, result: Result) -> None:
        self._progress.result(result)
        print(json.dumps({"event": "result", **result.as_data()}), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        print(json.dumps({"event": "notice", "text": text}), file=self._stream, flush=True)

    def close(self) -> None:
        self._stream.flush()


class LiveBatchView:
    """A table of what runs, kept at the end of the terminal; goals that did not succeed stay above it as lines."""

    def __init__(self, console: Console, progress: BatchProgress) -> None:
        from rich.live import Live

        self._console = console
        self._progress = progress
        self._live = Live(
            get_renderable=self.table, console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True
        )
        self._live.start()

    def event(self, row: GoalRow, event: Event) -> None:
        self._progress.event(row.id, event)

    def result(self, result: Result) -> None:
        self._progress.result(result)
        if not result.succeeded:
            self._console.print(
                result_line(result, self._progress.standing()), style="red", soft_wrap=True, markup=False
            )

    def note(self, text: str) -> None:
        self._console.print(one_line(text, 400), style="yellow", soft_wrap=True, markup=False)

    def close(self) -> None:
        self._live.stop()

    def table(self) -> RenderableType:
        """What is shown at this moment."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        standing = self._progress.standing()
        table = Table(box=None, pad_edge=False, show_header=bool(standing.running), header_style="dim")
        for name in ("goal", "step", "does", "since"):
            table.add_column(name, no_wrap=True)
        now = self._progress.now()
        for running in standing.running[:SHOWN_GOALS]:
            cells = (one_line(running.id, 40), str(running.step), one_line(running.doing, 20))
            table.add_row(*map(Text, cells), seconds(now - running.since))
        more = len(standing.running) - SHOWN_GOALS
        rest = [Text(f"and {more} more", style="dim")] if more > 0 else []
        return Group(table, *rest, Text(standing_line(standing), style="bold"))


def result_line(result: Result, standing: Standing) -> str:
    """`[ 12/200] finished      csv-sum-3  4 steps, 312 tokens, 2.1 s`, with the reason where it did not succeed."""
    width = len(str(standing.total))
    spent = f"{result.steps} step{'' if result.steps == 1 else 's'}, {result.tokens} tokens, {seconds(result.seconds)}"
    why = "" if result.succeeded else f": {one_line(result.reason, 160)}"
    ending = result.ending.replace("_", " ")
    return f"[{standing.done:>{width}}/{standing.total}] {ending:<13} {one_line(result.id, 60)}  {spent}{why}"


def standing_line(standing: Standing) -> str:
    """`running 4, done 12 of 200, failed 3, stuck 1, 85 tokens/s, about 3 min left`."""
    stuck = standing.endings.get(Ending.STUCK, 0)
    parts = [
        f"running {len(standing.running)}",
        f"done {standing.done} of {standing.total}",
        f"failed {standing.done - standing.succeeded - stuck}",
        f"stuck {stuck}",
        f"{standing.tokens_per_second:.0f} tokens/s",
    ]
    if standing.left is not None:
        parts.append(f"about {seconds(standing.left)} left")
    return ", ".join(parts)
