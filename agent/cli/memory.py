"""The commands on memory: add documents, forget, list, search, count, export, rebuild, verify, ablate."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from agent.cli import UsageError
from agent.cli.bar import bar
from agent.cli.logs import written
from agent.cli.options import Chosen, Config, Json, chosen_in
from agent.types import Ending, Event, MemoryKind, WhetstoneError

if TYPE_CHECKING:
    from agent.batch import Result
    from agent.settings import Settings
    from memory.index import VectorMemory
    from memory.rows import Filter

Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="KIND", help=f"{', '.join(get_args(MemoryKind))}. Repeatable.")
]
OfSession = Annotated[str | None, typer.Option("--session", metavar="SESSION", help="Its whole id.")]


def add(
    context: typer.Context,
    path: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Text files, or folders.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Index text files, so that recall answers from them with file and line; what is unchanged costs nothing."""
    if not path:
        raise UsageError("Name the files or folders to add: memory add notes.md docs/")
    from agent.view.remembered import show_added
    from memory.documents import Documents

    chosen = chosen_in(context, config, json)
    with _memory(chosen.load(), empty=True) as memory, bar("indexing") as advance:
        added = Documents(memory).add(path, progress=advance)
    show_added(added, sys.stdout, as_json=chosen.json)
    if not (added.added or added.unchanged):
        raise WhetstoneError(f"Nothing was added: there is no text file in {', '.join(map(str, path))}.")


def forget(
    context: typer.Context,
    record: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORD]...", help="Ids, or the beginnings of them.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="SESSION", help="All that one session left.")
    ] = None,
    document: Annotated[
        list[Path] | None, typer.Option("--document", metavar="PATH", help="A file that was added. Repeatable.")
    ] = None,
    config: Config = None,
) -> None:
    """Remove records for good: not even a rebuild brings them back."""
    if not (record or session or document):
        raise UsageError("Say what to forget: ids as `memory list` shows them, --session, or --document.")
    from memory.documents import Documents
    from memory.overview import identified
    from memory.rows import Filter

    with _memory(chosen_in(context, config, False).load()) as memory:
        ids = [identified(memory, beginning) for beginning in record or ()]
        if session is not None:
            found = [row.record.id for row in memory.list_records(Filter(session=session))]
            if not found:
                raise UsageError(f"Memory has no record of the session {session}: `memory list` shows the sessions.")
            ids += found
        documents = Documents(memory)
        for path in document or ():
            if not documents.remove(path):
                raise UsageError(f"{path} is not among the documents: `memory list --documents` shows them.")
        count = memory.forget(ids)
    print(f"{count} record(s) and {len(document or ())} document(s) forgotten", file=sys.stderr)


def list_records(
    context: typer.Context,
    kind: Kinds = None,
    session: OfSession = None,
    documents: Annotated[bool, typer.Option("--documents", help="The files that were added.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = 50,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what is remembered, newest first."""
    from agent.view.remembered import show_documents, show_rows
    from memory.documents import Documents

    chosen = chosen_in(context, config, json)
    where = _filter(kind, session)
    with _memory(chosen.load()) as memory:
        if documents:
            show_documents(Documents(memory).paths(), sys.stdout, as_json=chosen.json)
            return
        with memory.reading() as catalogue:
            total = catalogue.count(where)
        rows = memory.list_records(where, limit=limit, offset=max(0, total - limit))
        show_rows(rows[::-1], sys.stdout, as_json=chosen.json)
    if total > len(rows) or not rows:
        print(f"{len(rows)} of {total} such records" + (": --limit shows more" if rows else ""), file=sys.stderr)


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    kind: Kinds = None,
    session: OfSession = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The best so many.")] = 5,
    config: Config = None,
    json: Json = False,
) -> None:
    """Find records by meaning and by words, and tell what each part of the score is worth."""
    from agent.view.remembered import show_found

    chosen = chosen_in(context, config, json)
    if not query.strip():
        raise UsageError('The query is empty: say what to look for, as in memory search "staging port".')
    where = _filter(kind, session)
    with _memory(chosen.load()) as memory:
        show_found(memory.search(query, limit=limit, where=where), sys.stdout, as_json=chosen.json)


def stats(context: typer.Context, config: Config = None, json: Json = False) -> None:
    """Count what is remembered: kinds, origins, sessions, documents, size."""
    from agent.view.remembered import show_stats
    from memory.overview import stats as counted

    chosen = chosen_in(context, config, json)
    with _memory(chosen.load()) as memory:
        show_stats(counted(memory), sys.stdout, as_json=chosen.json)


def export(
    context: typer.Context,
    kind: Kinds = None,
    session: OfSession = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: stdout.")] = None,
    config: Config = None,
) -> None:
    """Write every record as a line of JSON, oldest first."""
    from memory.overview import export as as_lines

    where = _filter(kind, session)
    with _memory(chosen_in(context, config, False).load()) as memory:
        if out is None:
            for line in as_lines(memory, where):
                print(line)
            return
        count = 0
        with written(out) as file:
            for line in as_lines(memory, where):
                file.write(f"{line}\n")
                count += 1
    print(f"{count} record(s) written to {out}", file=sys.stderr)


def rebuild(context: typer.Context, config: Config = None) -> None:
    """Derive memory anew from the journals and the documents; the old index serves until the new one is whole."""
    from memory import rebuild as derive

    settings = chosen_in(context, config, False).load()
    with bar("records embedded") as advance:
        done = derive(
            _folder(settings),
            _sessions(settings),
            embedder=settings.memory.embedder,
            cache=settings.paths.cache,
            progress=None if advance is None else lambda count: advance(count, None, ""),
        )
    for path in done.missing_documents:
        print(f"left out: {path} cannot be read any more", file=sys.stderr)
    print(f"{done.records} records", file=sys.stderr)


def verify(context: typer.Context, config: Config = None, json: Json = False) -> None:
    """Compare memory with the journals and the documents it is derived from."""
    from agent.view.remembered import show_verification
    from memory import verify as compare

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    found = compare(
        _folder(settings), _sessions(settings), embedder=settings.memory.embedder, cache=settings.paths.cache
    )
    show_verification(found, sys.stdout, as_json=chosen.json)
    raise typer.Exit(0 if found.ok else 1)


def ablate(
    context: typer.Context,
    goals: Annotated[str, typer.Argument(metavar="GOALS", help="A file of goals, a folder of them, or -.")],
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Seeds for each goal.")] = 1,
    in_flight: Annotated[int, typer.Option("--in-flight", metavar="N", min=1, help="Goals at a time.")] = 1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where the sessions go; again: goes on there.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Run goals with and without memory, with the same seeds, and say what memory is worth."""
    from agent.ablation import NothingToCompare
    from agent.ablation import ablate as compare
    from agent.batch import stopped_by_sigint
    from agent.cli.run import let_plugins_be_found
    from agent.goalfile import read_goals
    from agent.journal import new_session_id
    from agent.view.ablation import show_ablation

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    if settings.origin("approval.mode") == "default":
        # Each goal works on a copy, and nobody is there to be asked: to refuse what writes would be to measure nothing.
        settings = Chosen({**chosen.flags, "approval.mode": "auto"}, chosen.config, chosen.json).load()
    rows = read_goals(goals, budget=settings.goal_budget())
    for row in rows:
        let_plugins_be_found(settings, row.goal.check)
    folder = out or settings.paths.data / "ablations" / new_session_id()
    print(f"sessions go to {folder}", file=sys.stderr)
    ended, total = 0, 2 * seeds * len(rows)
    with bar("goals") as advance, stopped_by_sigint(lambda said: print(said, file=sys.stderr)) as stopping:

        def count(result: Result) -> None:
            nonlocal ended
            ended += 1
            if advance is not None:
                advance(ended, total, result.id)

        try:
            found = compare(
                settings, rows, folder, seeds=seeds, in_flight=in_flight, stopping=stopping, on_result=count
            )
        except NothingToCompare:
            if not stopping.draining:
                raise
            found = None
    if found is not None:
        show_ablation(found, sys.stdout, as_json=chosen.json)
    if ended < total:
        print(
            f"{total - ended} of {total} sessions are left: the same command with -o {folder} goes on", file=sys.stderr
        )
        raise typer.Exit(Ending.INTERRUPTED.exit_code)


@contextlib.contextmanager
def _memory(settings: Settings, *, empty: bool = False) -> Generator[VectorMemory]:
    """The memory of these settings, nothing heavy loaded. Raises WhetstoneError for none, unless `empty` will do."""
    from memory import open_memory

    folder = _folder(settings)
    nothing = f"The memory in {folder} is empty: sessions fill it as they run, and memory add takes your own files."
    if not empty and not (folder / "current").exists():
        raise WhetstoneError(nothing)
    memory = open_memory(folder, embedder=settings.memory.embedder, cache=settings.paths.cache, warm=False)
    with contextlib.closing(memory):
        if not empty:
            with memory.reading() as catalogue:
                count = catalogue.count()
            if not count:
                raise WhetstoneError(nothing)
        yield memory


def _folder(settings: Settings) -> Path:
    return settings.paths.data / "memory"


def _sessions(settings: Settings) -> Iterator[tuple[Event, ...]]:
    """The events of every session, read when they are needed; a journal that cannot be read is told and left out."""
    from agent.journal import JournalError, read_session

    for path in sorted(settings.sessions_folder().glob("*.jsonl")):
        try:
            yield read_session(path).events
        except JournalError as error:
            print(f"left out: {error}", file=sys.stderr)


def _filter(kinds: list[str] | None, session: str | None) -> Filter:
    from memory.rows import Filter

    if unknown := set(kinds or ()).difference(get_args(MemoryKind)):
        raise UsageError(f"There is no kind {sorted(unknown)[0]!r}: use {', '.join(get_args(MemoryKind))}.")
    chosen: Any = frozenset(kinds) if kinds else None
    return Filter(kinds=chosen, session=session)
