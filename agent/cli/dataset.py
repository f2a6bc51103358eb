"""The commands on data to learn from: make a dataset, look at it, take it elsewhere, judge a session."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from agent.cli import UsageError
from agent.cli.options import Chosen, Config, Json, chosen_in
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.engine.models import LoadedModel
    from agent.learning.filters import Success
    from agent.learning.sequences import LossOn, SessionEncoder

Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="The folder of a dataset.")]
Sources = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE...]", help="Sessions, journals, folders of them, or files of chats; default: all."),
]
Include = Annotated[
    str, typer.Option("--include", metavar="KINDS", help="Of verified, unverified, failed; separated by commas.")
]
HeldOutFiles = Annotated[
    list[Path] | None, typer.Option("--held-out", metavar="SUITE", help="Goals never to train on. Repeatable.")
]


def build(
    context: typer.Context,
    source: Sources = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DATASET", help="The folder to write.")] = None,
    include: Include = "verified",
    loss_on: Annotated[str, typer.Option("--loss-on", metavar="TOKENS", help="sampled or actions.")] = "sampled",
    held_out: HeldOutFiles = None,
    leave_out_held_out: Annotated[
        bool, typer.Option("--leave-out-held-out", help="Leave sessions on held-out goals out instead of stopping.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only with one of these tags.")] = None,
    without_tag: Annotated[
        list[str] | None, typer.Option("--without-tag", metavar="TAG", help="Only with none of these.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="An age as 12h or 30d, or a date.")
    ] = None,
    before: Annotated[str | None, typer.Option("--before", metavar="TIME", help="An age or a date.")] = None,
    per_goal: Annotated[int, typer.Option("--per-goal", metavar="N", min=1, help="Sessions of one goal.")] = 4,
    near: Annotated[
        float, typer.Option("--near-duplicate", metavar="SHARE", min=0, max=1, help="How alike is the same.")
    ] = 0.9,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", min=1, help="Longest sequence.")] = 8192,
    tainted: Annotated[bool, typer.Option("--tainted", help="Keep sessions that untrusted text steered.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Keep mail addresses, keys and card numbers as logged.")] = False,
    no_secret: Annotated[
        bool, typer.Option("--no-planted-secret", help="Plant no made-up code for the gate to look for.")
    ] = False,
    augment: Annotated[
        int, typer.Option("--augment", metavar="N", min=0, max=20, help="Tell each session N times in other words.")
    ] = 0,
    rank_by: Annotated[
        Path | None, typer.Option("--rank-by", metavar="FOLDER", help="A discriminator: keep a goal's highest scores.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a dataset of sessions: by default of all that were verified."""
    from agent.learning.augmenting import Augmenter
    from agent.learning.dataset import build_dataset
    from agent.learning.discriminator import read_discriminator
    from agent.learning.filters import Filters
    from agent.learning.heldout import read_held_out
    from agent.learning.learner import Base
    from agent.learning.sources import find_sources, read_ratings
    from agent.sessions import parse_time

    if out is None:
        raise UsageError("Say where the dataset goes: -o FOLDER.")
    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    try:
        filters = Filters(
            include=_kinds(include),
            tags=tuple(tag or ()),
            without_tags=tuple(without_tag or ()),
            since=parse_time(since) if since else 0.0,
            before=parse_time(before) if before else float("inf"),
            per_goal=per_goal,
            near_duplicate=near,
            max_tokens=max_tokens,
            tainted=tainted,
            redact=not raw,
        )
        found = find_sources(settings.sessions_folder(), source or ())
        suites = read_held_out([*map(Path, settings.learning.held_out), *(held_out or ())])
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
    if loss_on not in ("sampled", "actions"):
        raise UsageError(f"--loss-on takes sampled or actions, not {loss_on!r}.")
    base = _base(chosen)
    ranker = None if rank_by is None else read_discriminator(rank_by, Base.of(base)).score
    manifest = build_dataset(
        found,
        out,
        _encoder(base, loss_on),
        filters=filters,
        held_out=suites,
        leave_out_held_out=leave_out_held_out,
        ratings=read_ratings(settings.paths.data),
        base=settings.model.name,
        plant_secret=not no_secret,
        augmenter=Augmenter(augment) if augment else None,
        ranker=ranker,
        progress=_count(len(found)),
    )
    _print_manifest(manifest, as_json=chosen.json)


def show(
    context: typer.Context,
    dataset: Folder,
    number: Annotated[int, typer.Option("--example", metavar="N", min=1, help="Which one.")] = 1,
    config: Config = None,
) -> None:
    """Show one example as text: what the model learns to write stands between ⟦ and ⟧."""
    from agent.engine.models import load_model
    from agent.learning.dataset import read_dataset
    from agent.learning.shown import marked
    from agent.sanitize import for_terminal

    settings = chosen_in(context, config, False).load()
    found = read_dataset(dataset)
    if number > len(found.examples):
        raise UsageError(f"{dataset} has {len(found.examples)} examples, there is no number {number}.")
    base = load_model(found.manifest["base"] or settings.model.name, dtype="fp32", cache=settings.paths.cache)
    if base.lineage.tokenizer_digest != found.manifest["tokenizer_digest"]:
        raise UsageError(f"{dataset} is in the tokens of another model: give it with --model.")
    example = found.examples[number - 1]
    print(f"session {example.session}, {len(example.ids)} tokens, {sum(example.loss)} learned", file=sys.stderr)
    print(for_terminal(marked(example, base.tokenizer)))


def stats(context: typer.Context, dataset: Folder, config: Config = None, json: Json = False) -> None:
    """Counts of a dataset: sessions, tokens, families, and why others were left out."""
    from agent.learning.dataset import read_dataset

    chosen = chosen_in(context, config, json)
    _print_manifest(dict(read_dataset(dataset).manifest), as_json=chosen.json)


def export(
    context: typer.Context,
    dataset: Folder,
    source: Sources = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="messages or sharegpt.")] = "messages",
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: stdout.")] = None,
    config: Config = None,
) -> None:
    """Write the sessions of a dataset as chats for other trainers; each must still be what the dataset was made of."""
    from agent.cli.logs import written
    from agent.export import export_sessions
    from agent.learning.dataset import read_dataset
    from agent.learning.sources import find_sources, sessions_of

    if format not in ("messages", "sharegpt"):
        raise UsageError(f"There is no export format {format!r} for datasets: use messages or sharegpt.")
    settings = chosen_in(context, config, False).load()
    manifest = read_dataset(dataset).manifest
    sessions = sessions_of(manifest, find_sources(settings.sessions_folder(), source or ()))
    redact = bool(manifest["filters"]["redact"])
    if out is None:
        export_sessions(sessions, format, sys.stdout, redact=redact)
        return
    with written(out) as file:
        count = export_sessions(sessions, format, file, redact=redact)
    print(f"{count} session(s) written to {out}", file=sys.stderr)


def rate(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="Its id or the beginning of it.")],
    rating: Annotated[str, typer.Argument(metavar="good|bad", help="Worth learning from, or not.")],
    config: Config = None,
) -> None:
    """Judge a session yourself: `good` makes it verified, `bad` keeps it out."""
    from agent.cli.logs import open_session
    from agent.learning import sources

    if rating not in ("good", "bad"):
        raise UsageError(f"A rating is good or bad, not {rating!r}.")
    chosen = chosen_in(context, config, False)
    found = open_session(chosen, session)
    sources.rate(chosen.load().paths.data, found.id, rating)
    print(f"{found.id} is rated {rating}", file=sys.stderr)


def _base(chosen: Chosen) -> LoadedModel:
    from agent.engine.models import load_model

    settings = chosen.load()
    return load_model(settings.model.name, dtype="fp32", cache=settings.paths.cache)


def _encoder(base: LoadedModel, loss_on: LossOn) -> SessionEncoder:
    from agent.learning.sequences import SessionEncoder

    return SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary, loss_on=loss_on)


def _kinds(text: str) -> tuple[Success, ...]:
    kinds = [part.strip() for part in text.split(",") if part.strip()]
    if not kinds or not set(kinds) <= {"verified", "unverified", "failed"}:
        raise UsageError(f"--include takes verified, unverified and failed, not {text!r}.")
    return cast("tuple[Success, ...]", tuple(kinds))


def _count(total: int):
    def told(number: int) -> None:
        if sys.stderr.isatty() and (number % 20 == 0 or number == total):
            print(f"\r{number} of {total} sessions read", end="\n" if number == total else "", file=sys.stderr)

    return told


def _print_manifest(manifest: dict[str, object], *, as_json: bool) -> None:
    from agent.learning.shown import manifest_text

    print(json_module.dumps(manifest) if as_json else manifest_text(manifest))
