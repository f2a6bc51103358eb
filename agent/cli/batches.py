"""The commands on many goals: run them, and measure a model with them."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from agent.cli import UsageError
from agent.cli.options import Adapter, Chosen, Config, Json, Model, chosen_in, given, text_or_file
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.batch import Stopping
    from agent.batch.engines import OpenEngine
    from agent.batch.progress import BatchProgress
    from agent.goalfile import GoalRow
    from agent.settings import Settings
    from agent.view.batch import BatchView

MemoryMode = Literal["none", "shared-read", "own"]
IN_FLIGHT = 8
INTERRUPTED = 130

InFlight = Annotated[int, typer.Option("-j", "--in-flight", metavar="N", min=1, help="Goals at the same time.")]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="ENGINE", help="local, or ray[://HEAD]: the nodes of a Ray cluster.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove what an earlier run left in the folder, and begin anew.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where results and sessions go.")]


def batch(
    context: typer.Context,
    goals: Annotated[
        str, typer.Argument(metavar="GOALS", help="A .jsonl, .json or .csv file, a folder of them, or -.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where results, report and sessions go.")],
    in_flight: InFlight = IN_FLIGHT,
    memory: Annotated[
        str, typer.Option("--memory", metavar="MODE", help="none; shared-read: yours, not changed; own: one for each.")
    ] = "none",
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="TEXT|@FILE", help="A goal, or a row in JSON, with {column} of the CSV."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Run nothing if a row cannot be used.")] = False,
    model: Model = None,
    adapter: Adapter = None,
    engine: EngineName = "local",
    fresh: Fresh = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Run a file of goals, nobody watching. Run again, it goes on; it exits with 0 if every goal succeeded."""
    chosen = _with_model(chosen_in(context, config, json), model, adapter)
    if memory not in get_args(MemoryMode):
        raise UsageError(f"--memory {memory} is not known: give none, shared-read or own.")
    settings = _headless(chosen, chosen)
    bad: list[str] = []
    rows = _goals(goals, settings, None if template is None else text_or_file("--template", template), bad.append)
    rows = _with_plugins(settings, out, rows, bad)
    if bad and strict:
        raise UsageError(f"{bad[0]}; {len(bad)} of {len(bad) + len(rows)} rows cannot be used, so nothing was run.")
    where = _engine(engine)
    raise typer.Exit(
        _batch(chosen, settings, rows, bad, out, in_flight, cast("MemoryMode", memory), where, fresh=fresh)
    )


def _batch(
    chosen: Chosen,
    settings: Settings,
    rows: Sequence[GoalRow],
    bad: Sequence[str],
    out: Path,
    in_flight: int,
    memory: MemoryMode,
    engine: OpenEngine,
    *,
    fresh: bool,
) -> int:
    from agent.batch import run_rows
    from agent.batch.report import write_report

    with _watched(len(rows), as_json=chosen.json) as (view, progress, stopping):
        for sentence in bad:
            view.note(f"left out: {sentence}")
        results = run_rows(
            settings,
            rows,
            out=out,
            in_flight=in_flight,
            memory=memory,
            engine=engine,
            fresh=fresh,
            stopping=stopping,
            on_result=view.result,
            on_event=view.event,
        )
        standing = progress.standing()
    summary = write_report(
        out, rows, results, bad=bad, in_flight=in_flight, run_goals=standing.fresh, run_seconds=standing.seconds
    )
    if chosen.json:
        print(json_module.dumps({"event": "batch", "path": str(out), **summary.as_data()}), flush=True)
    else:
        succeeded = summary.total.succeeded if summary.total else 0
        print(f"{succeeded} of {summary.goals} goals succeeded: {out / 'report.html'}", flush=True)
        if summary.unfinished:
            print(f"{summary.unfinished} have no result yet: the same command goes on", file=sys.stderr)
    if summary.unfinished:
        return INTERRUPTED
    return 0 if not bad and all(result.succeeded for result in results) else 1


def _engine(name: str) -> OpenEngine:
    from agent.batch.engines import engine_named

    try:
        return engine_named(name)
    except WhetstoneError as error:
        raise UsageError(f"--engine: {error}.") from error


def _with_plugins(settings: Settings, out: Path, rows: Sequence[GoalRow], bad: list[str]) -> list[GoalRow]:
    """The rows whose checks can be loaded; the others are told to `bad`."""
    from agent.cli.run import let_plugins_be_found

    # What must not be importable is where agents write: here the workspaces of the batch.
    paths = settings.paths.model_copy(update={"workspace": out.absolute() / "workspaces"})
    settings = settings.model_copy(update={"paths": paths})
    good: list[GoalRow] = []
    for row in rows:
        try:
            let_plugins_be_found(settings, row.goal.check)
            good.append(row)
        except WhetstoneError as error:
            bad.append(f"goal {row.id}: {error}")
    if not good:
        raise UsageError(f"There is nothing to run: {bad[0]}.")
    return good


def evaluate(
    context: typer.Context,
    suite: Annotated[
        str | None, typer.Argument(metavar="SUITE", help="Goals with checks, one JSON object a line.")
    ] = None,
    out: Out = None,
    in_flight: InFlight = IN_FLIGHT,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Also write the results here.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A B", help="Two saved results: print them goal by goal."),
    ] = None,
    model: Model = None,
    adapter: Adapter = None,
    engine: EngineName = "local",
    fresh: Fresh = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Measure a model on a suite of goals, or compare two such measurements. Run again, it goes on."""
    chosen = _with_model(chosen_in(context, config, json), model, adapter)
    if compare is not None:
        if suite is not None:
            raise UsageError("--compare reads two saved results and takes no suite: leave one of them out.")
        from agent.evaluation import compare as pair
        from agent.evaluation import load_results
        from agent.view.scores import show_comparison

        show_comparison(pair(*map(load_results, compare)), sys.stdout, as_json=chosen.json)
        return
    if suite is None:
        raise UsageError("Name a suite, as in: eval goals.jsonl; or two results with --compare A.json B.json.")
    raise typer.Exit(_evaluate(chosen, suite, out, in_flight, save, _engine(engine), fresh=fresh))


def _evaluate(
    chosen: Chosen,
    suite: str,
    out: Path | None,
    in_flight: int,
    save: Path | None,
    engine: OpenEngine,
    *,
    fresh: bool,
) -> int:
    from agent.batch.engines import local_engine, models_of
    from agent.batch.models import SharedModels
    from agent.evaluation import evaluate as measure
    from agent.evaluation import save_results, suite_digest
    from agent.view.scores import show_evaluation

    # Greedy, unless the command line itself says otherwise: a figure should be the same tomorrow.
    settings = _headless(Chosen({"sampling.temperature": 0.0, **chosen.values()}, {}, chosen.json), chosen)
    rows, bad = _goals(suite, settings, None), list[str]()
    rows = _with_plugins(settings, out or settings.paths.data, rows, bad)
    if bad:
        raise UsageError(f"{bad[0]}; a suite is measured whole or not at all.")
    with contextlib.closing(SharedModels(in_flight)) as models:
        # Elsewhere the model need not be here; that it is the same as before, the batch's folder sees to.
        model = models.identity(settings, models_of(rows)) if out is None and engine is local_engine else {}
        where = out or settings.paths.data / "evals" / _key(suite, suite_digest(rows), settings, model)
        with _watched(len(rows), as_json=chosen.json) as (view, _, stopping):
            done = measure(
                settings,
                rows,
                suite=Path(suite).name,
                out=where,
                in_flight=in_flight,
                models=models,
                engine=engine,
                fresh=fresh,
                stopping=stopping,
                on_result=view.result,
                on_event=view.event,
            )
    if save is not None:
        save_results(save, done)
    if chosen.json:
        total = done.total.as_data() if done.results else {}
        print(json_module.dumps({"event": "eval", "suite": done.suite, "path": str(where / "eval.json"), **total}))
    elif done.results:
        show_evaluation(done, sys.stdout)
        print(f"saved in {where / 'eval.json'}", file=sys.stderr)
    return 0 if done.complete else INTERRUPTED


def _with_model(chosen: Chosen, model: str | None, adapter: str | None) -> Chosen:
    return Chosen(
        {**chosen.flags, **given({"model.name": model, "model.adapter": adapter})}, chosen.config, chosen.json
    )


def _headless(chosen: Chosen, said: Chosen) -> Settings:
    """The settings, with every action allowed where nothing says otherwise: each goal works on a copy."""
    from agent.settings import load_settings

    try:
        settings = load_settings(chosen.values(), spelled=said.spelled())
        if settings.origin("approval.mode") == "default":
            settings = load_settings({**chosen.values(), "approval.mode": "auto"}, spelled=said.spelled())
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
    return settings


def _goals(
    source: str, settings: Settings, template: str | None, on_bad: Callable[[str], None] | None = None
) -> list[GoalRow]:
    from agent.goalfile import read_goals

    try:
        return read_goals(source, budget=settings.goal_budget(), template=template, on_bad=on_bad)
    except WhetstoneError as error:
        sentence = str(error)
        raise UsageError(sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith(".") else ".")) from error


def _key(suite: str, digest: str, settings: Settings, identity: dict[str, object]) -> str:
    """A folder name for this suite under these settings and this model."""
    import hashlib

    flat = {key: value for key, value in settings.flat().items() if not key.startswith("paths.")}
    said = json_module.dumps([digest, flat, identity], sort_keys=True)
    return f"{Path(suite).stem[:40]}-{hashlib.sha256(said.encode()).hexdigest()[:10]}"


@contextlib.contextmanager
def _watched(total: int, *, as_json: bool) -> Generator[tuple[BatchView, BatchProgress, Stopping]]:
    """A view that fits where the output goes, and a batch that Ctrl-C stops."""
    from agent.batch import stopped_by_sigint
    from agent.batch.progress import BatchProgress
    from agent.view.batch import JsonBatchView, LiveBatchView, PlainBatchView

    progress = BatchProgress(total)
    view: BatchView = PlainBatchView(sys.stderr, progress)
    if as_json:
        view = JsonBatchView(sys.stdout, progress)
    elif sys.stderr.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        from rich.console import Console

        view = LiveBatchView(Console(stderr=True, highlight=False, markup=False, emoji=False), progress)
    with contextlib.closing(view), stopped_by_sigint(view.note) as stopping:
        yield view, progress, stopping
