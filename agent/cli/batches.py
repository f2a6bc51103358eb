"""The commands on many goals: run them, and measure a model with them."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import UsageError
from agent.cli.options import Adapter, Chosen, Config, Json, Model, chosen_in, given
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.batch import Stopping
    from agent.goalfile import GoalRow
    from agent.settings import Settings
    from agent.view.batch import BatchView

IN_FLIGHT = 8
INTERRUPTED = 130

InFlight = Annotated[int, typer.Option("-j", "--in-flight", metavar="N", min=1, help="Goals at the same time.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove what an earlier run left in the folder, and begin anew.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where results and sessions go.")]


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
    raise typer.Exit(_evaluate(chosen, suite, out, in_flight, save, fresh=fresh))


def _evaluate(chosen: Chosen, suite: str, out: Path | None, in_flight: int, save: Path | None, *, fresh: bool) -> int:
    from agent.batch.models import SharedModels
    from agent.cli.run import let_plugins_be_found
    from agent.evaluation import evaluate as measure
    from agent.evaluation import save_results, suite_digest
    from agent.view.scores import show_evaluation

    # Greedy, unless the command line itself says otherwise: a figure should be the same tomorrow.
    settings = _headless(Chosen({"sampling.temperature": 0.0, **chosen.values()}, {}, chosen.json), chosen)
    rows = _goals(suite, settings, None)
    for row in rows:
        let_plugins_be_found(settings, row.goal.check)
    with contextlib.closing(SharedModels(in_flight)) as models:
        where = out or settings.paths.data / "evals" / _key(
            suite, suite_digest(rows), settings, models.identity(settings)
        )
        with _watched(len(rows), as_json=chosen.json) as (view, stopping):
            done = measure(
                settings,
                rows,
                suite=Path(suite).name,
                out=where,
                in_flight=in_flight,
                models=models,
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
def _watched(total: int, *, as_json: bool) -> Generator[tuple[BatchView, Stopping]]:
    """A view that fits where the output goes, and a batch that Ctrl-C stops."""
    from agent.batch import stopped_by_sigint
    from agent.batch.progress import BatchProgress
    from agent.view.batch import JsonBatchView, LiveBatchView, PlainBatchView

    progress = BatchProgress(total)
    view: BatchView = PlainBatchView(sys.stderr, progress)
    if as_json:
        view = JsonBatchView(sys.stdout)
    elif sys.stderr.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        from rich.console import Console

        view = LiveBatchView(Console(stderr=True, highlight=False, markup=False, emoji=False), progress)
    with contextlib.closing(view), stopped_by_sigint(view.note) as stopping:
        yield view, stopping
