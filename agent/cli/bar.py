"""The progress bar of a command that takes a while."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator


@contextlib.contextmanager
def bar(what: str) -> Generator[Callable[[int, int | None, str], None] | None]:
    """Called with done, total and the name of what is next, it moves a progress bar; None where no person watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from agent.sanitize import for_terminal

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def advance(done: int, total: int | None, name: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{what} {for_terminal(name)[-60:]}")

        yield advance
