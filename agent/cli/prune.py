"""The command that makes a model smaller."""

from __future__ import annotations

import json as json_module
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli import UsageError
from agent.cli.options import Config, Json, Model, Seed, chosen_in
from agent.cli.train import Data, line, progress_bar, recipe_of, same_tokens, whole_number


def prune(
    context: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where the smaller model goes.")],
    layers: Annotated[int, typer.Option("--layers", metavar="N", min=1, help="How many layers to take out.")],
    rank: Annotated[int | None, typer.Option("--rank", metavar="R", help="Of the LoRA that heals.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Highest learning rate.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", metavar="N", help="Times through the data.")] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", metavar="N", help="Computed at a time.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", metavar="N", help="Of healing, at most.")
    ] = None,
    evaluations: Annotated[int | None, typer.Option("--evaluations", metavar="N", help="On held-out data.")] = None,
    holdout_share: Annotated[
        float, typer.Option("--holdout-share", metavar="SHARE", min=0, max=0.5, help="Of the goals, to measure with.")
    ] = 0.05,
    model: Model = None,
    seed: Seed = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Take layers out of a model, heal it on a dataset, and say what it cost. It is used with --model FOLDER."""
    given: dict[str, Any] = {
        "rank": rank, "learning_rate": learning_rate, "epochs": epochs, "batch_tokens": batch_tokens,
        "max_minutes": max_minutes, "evaluations": evaluations, "seed": whole_number(seed),
    }  # fmt: skip
    recipe = recipe_of(given)
    if out.exists():
        raise UsageError(f"{out} is there already: name a folder that does not exist yet.")
    chosen = chosen_in(context, config, json)
    from dataclasses import asdict

    from agent.engine.models import load_model
    from agent.learning.dataset import read_dataset
    from agent.learning.learner import Base
    from agent.learning.pruning import prune as run
    from agent.learning.pruning import table
    from agent.learning.schedule import split_by_goal

    dataset = read_dataset(data)
    settings = chosen.load()
    spec = model or dataset.manifest.get("base") or settings.model.name
    loaded = load_model(spec, dtype="fp32", cache=settings.paths.cache)
    same_tokens(Base.of(loaded), dataset.manifest, data)
    examples, held = split_by_goal(dataset.examples, holdout_share, recipe.seed)
    with progress_bar() if sys.stderr.isatty() else nullcontext(line) as watch:
        pruned = run(loaded, examples, held, layers, out, recipe, cache=settings.paths.cache, watch=watch)
    if chosen.json:
        print(json_module.dumps({**asdict(pruned), "folder": str(pruned.folder)}))
        return
    print(table(pruned))
    print(f"the model is in {out}: use it with --model {out}", file=sys.stderr)
