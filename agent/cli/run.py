"""One goal, run from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import UsageError, program_name
from agent.cli.options import Chosen, text_or_file
from agent.types import Ending, Event, Goal, WhetstoneError
from agent.view import View
from agent.view.progress import Progress

if TYPE_CHECKING:
    from agent.approval import Asker
    from agent.settings import Settings


def run(
    chosen: Chosen,
    goal_text: str,
    check_text: str | None,
    schema_text: str | None,
    *,
    interactive: bool,
    quiet: bool,
    profiled: bool = False,
) -> int:
    """Run the goal, print its answer (and where the time went), return the exit code of its ending."""
    settings = chosen.load()
    prepare_run(settings)
    goal = _goal(settings, goal_text, check_text, schema_text)
    if not settings.paths.workspace.is_dir():
        raise UsageError(f"The workspace {settings.paths.workspace} is not a folder: name an existing one with -w.")
    from agent.runtime import run_goal

    let_plugins_be_found(settings, goal.check)
    view, asker = open_view(settings, Progress(next_command(settings)), chosen.json, quiet, interactive)
    with contextlib.closing(view):
        end = run_goal(settings, goal, view=view, asker=asker)
    if profiled:
        _print_profile(settings, end)
    return answer_of(end, as_json=chosen.json)


def prepare_run(settings: Settings) -> None:
    """Say what this process is for, so that its start need not make ready for anything else."""
    from agent.engine.torch_import import only_run

    if not settings.tools.plugins:  # a plugin may do anything with torch
        only_run()


def resume(
    chosen: Chosen,
    session: str | None,
    *,
    force: bool,
    interactive: bool,
    quiet: bool,
    profiled: bool = False,
) -> int:
    """Go on with a session (None = the newest), print its answer, return the exit code of its ending."""
    from agent.journal import JournalError, find_session, read_session
    from agent.runtime import resume_session, resume_settings

    now = chosen.load()
    try:
        path = find_session(now.sessions_folder(), session)
        settings = resume_settings(path, chosen.values(), spelled=chosen.spelled())
        prepare_run(settings)
    except JournalError as error:
        raise UsageError(str(error)) from error
    progress = Progress(next_command(now))
    for event in read_session(path).events:
        progress.feed(event)
    let_plugins_be_found(settings, read_session(path).header["goal"]["check"])
    view, asker = open_view(settings, progress, chosen.json, quiet, interactive)
    with contextlib.closing(view):
        end = resume_session(settings, path, force=force, view=view, asker=asker)
    if profiled:
        _print_profile(settings, end)
    return answer_of(end, as_json=chosen.json)


def answer_of(end: Event, *, as_json: bool) -> int:
    """Print the answer on stdout, unless that has the events, and return the ending's exit code."""
    if end.data["answer"] is not None and not as_json:
        from agent.view.lines import answer_text

        print(answer_text(end.data["answer"]), flush=True)
    return Ending(end.data["ending"]).exit_code


def open_view(
    settings: Settings, progress: Progress, as_json: bool, quiet: bool, interactive: bool
) -> tuple[View, Asker | None]:
    """The view that fits where the output goes, and somebody to ask if somebody is there.

    A person is there when both the keyboard and the screen (stdin and stderr) are a terminal.
    """
    from agent.view.plain import JsonView, PlainView, QuietView

    view: View = PlainView(sys.stderr, progress=progress)
    terminal = sys.stderr.isatty()
    if not terminal or (as_json and not interactive):
        return (JsonView(sys.stdout) if as_json else QuietView() if quiet else view), None
    from rich.console import Console

    from agent.view.ask import TerminalAsker

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    asker = TerminalAsker(console) if interactive and sys.stdin.isatty() else None
    if as_json or quiet:
        return JsonView(sys.stdout) if as_json else QuietView(), asker
    if os.environ.get("TERM") in (None, "dumb"):
        return view, asker
    from agent.view.live import LiveView

    console.print(f"loading {settings.model.name} ...", style="dim")
    live = LiveView(console, show_answer=not sys.stdout.isatty(), progress=progress)
    if asker is not None:
        asker.take_over = live.hand_over
    return live, asker


def _print_profile(settings: Settings, end: Event) -> None:
    from agent.journal import find_session, read_session
    from agent.profile import print_profile, profile

    path = find_session(settings.sessions_folder(), end.data["session"])
    print_profile(profile(read_session(path).events), sys.stderr)


def next_command(settings: Settings) -> str:
    """How to start a command that finds the same sessions: with the same data folder, if a flag chose it."""
    program = program_name()
    if not settings.origin("paths.data").startswith("-c"):
        return program
    return f"{program} -c {shlex.quote(f'paths.data={settings.paths.data}')}"


def _goal(settings: Settings, goal_text: str, check_text: str | None, schema_text: str | None) -> Goal:
    text = text_or_file("--goal", goal_text).strip()
    if not text:
        raise UsageError('The goal is empty: say what to achieve, as in --goal "What is notes.txt about?"')
    check = None
    if check_text is not None:
        from agent.check import parse_check

        try:
            check = parse_check(text_or_file("--check", check_text) if check_text.startswith("@") else check_text)
        except WhetstoneError as error:
            raise UsageError(str(error)) from error
    return Goal(text, check=check, answer_schema=_schema(schema_text), budget=settings.goal_budget())


def _schema(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    from tools.finish import closed_answer_schema

    try:
        schema = json.loads(text_or_file("--answer-schema", text))
        closed_answer_schema(schema)
    except ValueError as error:
        raise UsageError(f"--answer-schema is not valid JSON: {error}.") from error
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
    return schema


def let_plugins_be_found(settings: Settings, check: Mapping[str, Any] | None = None) -> None:
    """Make `module:name` of the settings and the check importable from the current folder, where that is safe.

    Raises UsageError for a check's plug-in that cannot be loaded, before any work is done for it.
    """
    from agent.check import load_plugin, plugins_of

    specs = plugins_of(check)
    # A module of one's own usually lies in the current folder. Last on the path, so that it hides nothing, and never
    # when the agent can write there.
    folder = Path.cwd().resolve()
    inside = folder.is_relative_to(settings.paths.workspace.resolve())
    if (settings.tools.plugins or specs) and not inside and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        for spec in specs:
            load_plugin(spec)
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
