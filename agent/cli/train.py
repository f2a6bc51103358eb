"""The command that trains an adapter."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import UsageError
from agent.cli.options import Config, Json, Model, Seed, chosen_in
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.learning.dataset import Dataset
    from agent.learning.examples import Example
    from agent.learning.learner import Base
    from agent.learning.recipe import Recipe
    from agent.learning.trainer import Progress, Trained

DISCRIMINATOR = "discriminator"
"""An objective of its own kind: what comes of it is a classifier of sessions, no adapter."""
Number = float | None
Data = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset made by `dataset build`.")]


def recipe_of(given: Mapping[str, Any]) -> Recipe:
    """The recipe with the options that were given; those that are None keep their defaults."""
    from agent.learning.recipe import Recipe

    try:
        return Recipe(**{name: value for name, value in given.items() if value is not None})
    except WhetstoneError as error:
        raise UsageError(str(error)) from error


def train(
    context: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where the adapter goes.")],
    method: Annotated[str | None, typer.Option("--method", metavar="NAME", help="lora, rslora, dora, ...")] = None,
    objective: Annotated[str | None, typer.Option("--objective", metavar="NAME", help="sft, adaptive, ...")] = None,
    rank: Annotated[int | None, typer.Option("--rank", metavar="R", help="Rank of the LoRA.")] = None,
    alpha: Annotated[Number, typer.Option("--alpha", metavar="A", help="Scale times rank.")] = None,
    targets: Annotated[str | None, typer.Option("--targets", metavar="NAMES", help="As q_proj,v_proj.")] = None,
    layers: Annotated[int | None, typer.Option("--layers", metavar="N", help="Only the last N layers.")] = None,
    learning_rate: Annotated[Number, typer.Option("--lr", metavar="RATE", help="Highest learning rate.")] = None,
    epochs: Annotated[Number, typer.Option("--epochs", metavar="N", help="Times through the data.")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", metavar="N", help="Tokens computed at a time.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option("--accumulate", metavar="N", help="Batches of a step.")] = None,
    warmup: Annotated[Number, typer.Option("--warmup", metavar="SHARE", help="Of the steps.")] = None,
    weight_decay: Annotated[Number, typer.Option("--weight-decay", metavar="W")] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="DATASET", help="Sessions that must not be forgotten.")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option("--text", metavar="FILE", help="Raw text for adaptive. Repeatable.")
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", metavar="DATASET", help="dpo, spin, discriminator: other sessions.")
    ] = None,
    epsilon: Annotated[Number, typer.Option("--epsilon", metavar="E", help="adversarial: size of the step.")] = None,
    preference: Annotated[Number, typer.Option("--beta", metavar="B", help="dpo, spin: beta.")] = None,
    anchor: Annotated[Number, typer.Option("--anchor", metavar="W", help="dpo: weight of -log p.")] = None,
    weigh_by: Annotated[
        Path | None, typer.Option("--weigh-by", metavar="FOLDER", help="A discriminator: its scores are weights.")
    ] = None,
    replay_weight: Annotated[Number, typer.Option("--replay-weight", metavar="W", help="Of their loss.")] = None,
    kl_weight: Annotated[Number, typer.Option("--kl-weight", metavar="W", help="Of the KL to the base.")] = None,
    holdout: Annotated[
        Path | None, typer.Option("--holdout", metavar="DATASET", help="Sessions that decide when to stop.")
    ] = None,
    holdout_share: Annotated[
        float, typer.Option("--holdout-share", metavar="SHARE", min=0, max=0.5, help="Without --holdout: of the goals.")
    ] = 0.05,
    evaluations: Annotated[int | None, typer.Option("--evaluations", metavar="N", help="On held-out data.")] = None,
    patience: Annotated[int | None, typer.Option("--patience", metavar="N", help="Measurements; 0: never.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="FORMAT", help="auto, fp32 or bf16.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="Of the CPU.")] = None,
    max_minutes: Annotated[Number, typer.Option("--max-minutes", metavar="N", help="Time at most.")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Half the memory for a third more time.")
    ] = False,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="ADAPTER", help="Go on from this LoRA, not from nothing.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    model: Model = None,
    seed: Seed = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Train an adapter on a dataset. It is used with --adapter FOLDER."""
    given: dict[str, Any] = {
        "method": method, "objective": None if objective == DISCRIMINATOR else objective,
        "rank": rank, "alpha": alpha, "layers": layers,
        "learning_rate": learning_rate, "epochs": epochs, "batch_tokens": batch_tokens, "accumulate": accumulate,
        "warmup": warmup, "weight_decay": weight_decay, "replay_weight": replay_weight, "kl_weight": kl_weight,
        "evaluations": evaluations, "patience": patience, "dtype": dtype, "threads": threads,
        "max_minutes": max_minutes, "gradient_checkpointing": gradient_checkpointing or None,
        "targets": None if targets is None else tuple(name.strip() for name in targets.split(",") if name.strip()),
        "epsilon": epsilon, "preference": preference, "anchor": anchor, "seed": whole_number(seed),
    }  # fmt: skip
    recipe = recipe_of(given)
    chosen = chosen_in(context, config, json)
    from agent.engine.adapter import read_adapter
    from agent.engine.finding import find_model
    from agent.learning.dataset import kept_apart, read_dataset
    from agent.learning.learner import Base
    from agent.learning.trainer import train as run

    dataset = read_dataset(data)
    settings = chosen.load()
    spec = model or dataset.manifest.get("base") or settings.model.name
    found = find_model(spec, cache=settings.paths.cache)  # whether it fits is asked before its weights are read
    base = Base.of(found)
    same_tokens(base, dataset.manifest, data)
    examples: list[Example] = list(dataset.examples)
    used = [dataset]
    held: list[Example] = []
    if holdout is not None:
        held = _read(holdout, base, used)
    elif holdout_share:
        from agent.learning.schedule import split_by_goal

        planted = dataset.manifest.get("planted") or {}
        examples, held = split_by_goal(examples, holdout_share, recipe.seed, keep=planted.get("session", ""))
    others = _read(rejected, base, used) if rejected is not None else []
    if objective == DISCRIMINATOR:
        _discriminate(base, dataset.examples, others, out, recipe, chosen.json)
        return
    if weigh_by is not None:
        from agent.learning.discriminator import read_discriminator, weighed

        examples = weighed(examples, read_discriminator(weigh_by, base).score(examples, recipe))
    beside = _read(replay, base, used) if replay is not None else []
    if text:
        from agent.learning.raw_text import read_text

        beside += read_text(text, found.tokenizer)
    before = None if start is None else read_adapter(start, base.lineage, settings.paths.cache)
    shown = progress_bar() if sys.stderr.isatty() else nullcontext(line)
    with shown as watch:
        trained = run(
            base, examples, recipe, out, holdout=held, replay=beside,
            rejected=others, start=before,
            resume=resume, watch=watch, dataset=dataset.manifest.get("examples_sha256"),
            loss_on=dataset.manifest.get("loss_on"), planted=dataset.manifest.get("planted"),
            augmented=dataset.manifest.get("augmented"),
            held_out=kept_apart(used),
        )  # fmt: skip
    _report(trained, recipe, chosen.json)


def _read(folder: Path, base: Base, used: list[Dataset]) -> list[Example]:
    """The examples of a further dataset, which is added to those `used`.

    Raises WhetstoneError if it was made for other tokens than the model's.
    """
    from agent.learning.dataset import read_dataset

    dataset = read_dataset(folder)
    same_tokens(base, dataset.manifest, folder)
    used.append(dataset)
    return list(dataset.examples)


def _discriminate(
    base: Base, verified: Sequence[Example], failed: Sequence[Example], out: Path, recipe: Recipe, as_json: bool
) -> None:
    from dataclasses import asdict

    from agent.learning.discriminator import train_discriminator

    report = train_discriminator(base, verified, failed, out, recipe)
    if as_json:
        print(json_module.dumps({"discriminator": str(out), **asdict(report)}))
        return
    print(f"{out}: {report.text()}")


def _report(trained: Trained, recipe: Recipe, as_json: bool) -> None:
    from agent.learning.curves import in_terminal

    last = trained.points[-1] if trained.points else None
    if as_json:
        facts = {
            "adapter": str(trained.folder), "steps": len(trained.points), "stopped": trained.stopped,
            "loss": last.loss if last else None, "heldout": trained.best,
            "seconds": last.seconds if last else 0.0, "tokens": last.tokens if last else 0, "recipe": recipe.card(),
        }  # fmt: skip
        print(json_module.dumps(facts))
        return
    print(in_terminal(trained.points), file=sys.stderr)
    why = {"done": "", "early": " (held-out loss no longer fell)", "time": " (time was up)"}[trained.stopped]
    heldout = "" if trained.best is None else f", held-out loss {trained.best:.3f}"
    used = f"use it with --{'model' if recipe.method == 'full' else 'adapter'} {trained.folder}"
    print(f"{trained.folder}: {len(trained.points)} steps{why}{heldout}; {used}")


def same_tokens(base: Base, manifest: Any, data: Path) -> None:
    """Raise WhetstoneError if a dataset was made for other tokens than the model's."""
    for key, what in (("tokenizer_digest", "tokenizer"), ("template_digest", "chat template")):
        recorded = manifest.get(key) or manifest.get("lineage", {}).get(key)
        if recorded and recorded != getattr(base.lineage, key):
            raise WhetstoneError(
                f"the dataset {data} was made with another {what} than that of {base.spec}: build it again for this"
                " model, or name the model it was made for with --model"
            )


def line(progress: Progress) -> None:
    """Say how a training stands, about fifty times in its course."""
    point, every = progress.point, max(1, progress.steps // 50)
    if point.step % every == 0 or point.step == progress.steps or point.heldout is not None:
        print(_said(progress), file=sys.stderr, flush=True)


def _said(progress: Progress) -> str:
    point = progress.point
    parts = [
        f"step {point.step}/{progress.steps}",
        f"loss {point.loss:.3f}",
        *([] if point.heldout is None else [f"held-out {point.heldout:.3f}"]),
        *([] if point.divergence is None else [f"KL {point.divergence:.3f}"]),
        f"{progress.tokens_per_second:,.0f} tokens/s",
        f"{progress.memory / 2**30:.1f} GiB",
        f"{progress.seconds_left / 60:.0f} min left",
    ]
    return "  ".join(parts)


def progress_bar() -> AbstractContextManager[Callable[[Progress], None]]:
    """A bar for a terminal, as long as the training lasts."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    @contextmanager
    def opened() -> Generator[Callable[[Progress], None]]:
        def told(progress: Progress) -> None:
            bar.update(task, completed=progress.point.step, total=progress.steps, description=_said(progress))

        with Bar(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True)) as bar:
            task = bar.add_task("loading", total=None)
            yield told

    return opened()


def whole_number(seed: str | None) -> int | None:
    """The seed of an option. Raises UsageError for anything else."""
    if seed is None:
        return None
    try:
        return int(seed)
    except ValueError as error:
        raise UsageError(f"--seed needs a whole number, not {seed!r}") from error
