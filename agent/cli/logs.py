"""The commands on logged sessions: list, remove, show, verify, export."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from agent.cli import UsageError, program_name
from agent.cli.options import Chosen, Config, Json, chosen_in
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.index import SessionSummary
    from agent.journal import Session

SessionId = Annotated[
    str | None, typer.Argument(metavar="[SESSION]", help="Its id or the beginning of it; default: the newest.")
]
Sessions = Annotated[list[str] | None, typer.Argument(metavar="SESSION...", help="Ids, or the beginnings of them.")]
Ending = Annotated[str | None, typer.Option("--ending", metavar="ENDING", help="As finished, stuck, or running.")]
ModelPart = Annotated[str | None, typer.Option("--with-model", metavar="TEXT", help="Part of the model's name.")]
AdapterPart = Annotated[str | None, typer.Option("--with-adapter", metavar="TEXT", help="Part of the adapter.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="An age as 12h or 30d, or a date.")]
Text = Annotated[str | None, typer.Option("--text", metavar="TEXT", help="Anywhere in the session.")]


def sessions(
    context: typer.Context,
    ending: Ending = None,
    with_model: ModelPart = None,
    with_adapter: AdapterPart = None,
    since: Since = None,
    text: Text = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the logged sessions, newest first, or remove some."""
    chosen = chosen_in(context, config, json)
    context.obj = chosen
    if context.invoked_subcommand is not None:
        return
    from agent.sessions import select_sessions
    from agent.view.show import show_sessions

    folder = chosen.load().sessions_folder()
    with _usage():
        found = select_sessions(folder, ending=ending, model=with_model, adapter=with_adapter, since=since, text=text)
    if not found and not chosen.json:
        wanted = any((ending, with_model, with_adapter, since, text))
        print(
            f"No session in {folder} is like that." if wanted else f"There are no sessions in {folder} yet.",
            file=sys.stderr,
        )
    show_sessions(found, sys.stdout, as_json=chosen.json)


def remove(context: typer.Context, session: Sessions = None, config: Config = None) -> None:
    """Remove sessions, and the kept files that no other session needs."""
    if not session:
        raise UsageError("Name the sessions to remove: `sessions` lists them.")
    from agent.index import list_sessions
    from agent.journal import find_session

    chosen = chosen_in(context, config, False)
    folder = chosen.load().sessions_folder()
    with _usage():
        paths = {find_session(folder, name) for name in session}
    _remove(chosen, [summary for summary in list_sessions(folder) if summary.path in paths])


def prune(
    context: typer.Context,
    older_than: Annotated[str, typer.Option("--older-than", metavar="TIME", help="An age as 30d, or a date.")],
    ending: Ending = None,
    config: Config = None,
) -> None:
    """Remove all sessions that began before a time."""
    from agent.sessions import select_sessions

    chosen = chosen_in(context, config, False)
    with _usage():
        found = select_sessions(chosen.load().sessions_folder(), before=older_than, ending=ending)
    _remove(chosen, found)


def reindex(context: typer.Context, config: Config = None) -> None:
    """Make the index of sessions again from their journals."""
    from agent.index import rebuild
    from agent.journal import JournalError, read_session

    folder = chosen_in(context, config, False).load().sessions_folder()
    whole: list[Session] = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            whole.append(read_session(path))
        except JournalError as error:
            print(f"left out: {error}", file=sys.stderr)
    count = rebuild(folder, ((session.id, session.events, session.head) for session in whole))
    print(f"{count} session(s) indexed", file=sys.stderr)


def show(
    context: typer.Context,
    session: SessionId = None,
    step: Annotated[int | None, typer.Option("--step", metavar="N", help="Everything of one step.")] = None,
    prompt: Annotated[int | None, typer.Option("--prompt", metavar="N", help="The prompt of one step.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one page for a browser.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Where its time went.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Tell what happened in a session: its settings, every step, its ending."""
    from agent.view.show import show_prompt, show_session, show_step

    chosen = chosen_in(context, config, json)
    logged = open_session(chosen, session)
    if html is not None:
        from agent.view.html import session_page

        with written(html) as file:
            file.write(session_page(logged))
        print(f"written to {html}", file=sys.stderr)
    elif profile:
        from agent import profile as profiles

        found = profiles.profile(logged.events)
        if chosen.json:
            print(json_module.dumps(asdict(found)))
        else:
            profiles.print_profile(found, sys.stdout)
    elif prompt is not None:
        show_prompt(logged.events, prompt, sys.stdout, as_json=chosen.json)
    elif step is not None:
        show_step(logged.events, step, sys.stdout, as_json=chosen.json)
    else:
        show_session(logged.events, logged.notes, sys.stdout, as_json=chosen.json, command=program_name())


def verify(
    context: typer.Context,
    session: SessionId = None,
    every: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Check that journals are whole and unchanged: the hash chain, the last event, the kept files."""
    from agent.journal import find_session
    from agent.verify import verify_session

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    folder = settings.sessions_folder()
    with _usage():
        paths = sorted(folder.glob("*.jsonl")) if every else [find_session(folder, session)]
    bad = 0
    for path in paths:
        findings = verify_session(path, settings.paths.data / "objects")
        bad += bool(findings)
        if chosen.json:
            print(json_module.dumps({"session": path.stem, "whole": not findings, "findings": findings}))
        else:
            print(f"{path.stem}: {'; '.join(findings) if findings else 'whole and unchanged'}")
    raise typer.Exit(1 if bad else 0)


def export(
    context: typer.Context,
    session: Sessions = None,
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="atif, messages, sharegpt or markdown.")
    ] = "messages",
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: stdout.")] = None,
    raw: Annotated[bool, typer.Option("--no-redact", help="Write e-mails, card numbers and keys as they are.")] = False,
    ending: Ending = None,
    with_model: ModelPart = None,
    with_adapter: AdapterPart = None,
    since: Since = None,
    text: Text = None,
    config: Config = None,
) -> None:
    """Write sessions in a format that other tools read: those named, those that match, or the newest."""
    from agent.export import FORMATS, export_sessions
    from agent.journal import find_session, read_session
    from agent.sessions import select_sessions

    chosen = chosen_in(context, config, False)
    folder = chosen.load().sessions_folder()
    with _usage():
        if format not in FORMATS:
            raise UsageError(f"There is no export format {format!r}: use {', '.join(FORMATS)}.")
        if not session and any((ending, with_model, with_adapter, since, text)):
            matching = select_sessions(
                folder, ending=ending, model=with_model, adapter=with_adapter, since=since, text=text
            )
            paths = [summary.path for summary in reversed(matching)]
        else:
            paths = [find_session(folder, name) for name in session or [None]]
    found: Iterator[Session] = (tell_notes(read_session(path)) for path in paths)
    if out is None:
        export_sessions(found, format, sys.stdout, redact=not raw)
        return
    with written(out) as file:
        count = export_sessions(found, format, file, redact=not raw)
    print(f"{count} session(s) written to {out}", file=sys.stderr)


def open_session(chosen: Chosen, session: str | None) -> Session:
    """The session that was named, verified. Raises UsageError if there is none."""
    from agent.journal import find_session, read_session

    with _usage():
        path = find_session(chosen.load().sessions_folder(), session)
    return read_session(path)


def tell_notes(logged: Session) -> Session:
    """Say on stderr what had to be said about a journal's file."""
    for note in logged.notes:
        print(f"note: {note}", file=sys.stderr)
    return logged


@contextlib.contextmanager
def written(path: Path) -> Generator[TextIO]:
    """A file for its owner only that takes the place of `path` when it is whole. Raises UsageError."""
    import tempfile

    try:
        fd, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
        try:
            with open(fd, "w", encoding="utf-8") as file:
                yield file
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _remove(chosen: Chosen, summaries: list[SessionSummary]) -> None:
    from agent.sessions import remove_sessions

    settings = chosen.load()
    removed = remove_sessions(settings.sessions_folder(), settings.paths.data / "objects", summaries)
    print(f"{len(removed)} session(s) removed", file=sys.stderr)


@contextlib.contextmanager
def _usage() -> Generator[None]:
    """What is wrong with the words of the command is a usage error."""
    try:
        yield
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
