"""The commands on adapters: what there is, which one is in use, how to go back."""

from __future__ import annotations

import json as json_module
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import UsageError
from agent.cli.options import Chosen, Config, Json, chosen_in

if TYPE_CHECKING:
    from agent.engine.models import LoadedModel
    from agent.learning.adapters import Registry

AdapterId = Annotated[str, typer.Argument(metavar="ADAPTER", help="Its id or the beginning of it.")]
AdapterIds = Annotated[list[str], typer.Argument(metavar="ADAPTER...", help="Ids, or the beginnings of them.")]


def list_adapters(context: typer.Context, config: Config = None, json: Json = False) -> None:
    """List the adapters, newest first, and which of them are in use."""
    from agent.view.adapters import as_data, list_text

    chosen = chosen_in(context, config, json)
    entries = _registry(chosen).entries()
    if chosen.json:
        print(json_module.dumps([as_data(entry) for entry in entries]))
    elif not entries:
        print("There are no adapters yet: `train` makes one, `adapters add` takes it in.", file=sys.stderr)
    else:
        print(list_text(entries))


def show(context: typer.Context, adapter: AdapterId, config: Config = None, json: Json = False) -> None:
    """Show what an adapter was made of, what the gate said of it, and what became of it."""
    from agent.view.adapters import as_data, show_text

    chosen = chosen_in(context, config, json)
    registry = _registry(chosen)
    entry = registry.find(adapter)
    print(json_module.dumps(as_data(entry)) if chosen.json else show_text(entry, registry.history()))


def diff(context: typer.Context, first: AdapterId, second: AdapterId, config: Config = None) -> None:
    """Show what sets two adapters apart."""
    from agent.view.adapters import diff_text

    registry = _registry(chosen_in(context, config, False))
    print(diff_text(registry.find(first), registry.find(second)))


def add(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `train` wrote.")],
    config: Config = None,
) -> None:
    """Take a trained adapter in as a candidate."""
    entry = _registry(chosen_in(context, config, False)).add(folder)
    print(entry.id)


def promote(
    context: typer.Context,
    adapter: AdapterId,
    without_gate: Annotated[bool, typer.Option("--without-gate", help="Although the gate did not pass it.")] = False,
    config: Config = None,
) -> None:
    """Use an adapter from now on, if the gate passed it."""
    entry = _registry(chosen_in(context, config, False)).promote(adapter, without_gate=without_gate)
    print(f"adapter {entry.id} is in use for its base; `adapters rollback` takes it back", file=sys.stderr)


def rollback(context: typer.Context, config: Config = None) -> None:
    """Go back to the adapter that was in use before (for the model that --model names)."""
    chosen = chosen_in(context, config, False)
    before, now = _registry(chosen).rollback(_base(chosen).lineage)
    used = f"adapter {now.id} is in use again" if now is not None else "no adapter of the registry is in use"
    print(f"adapter {before.id} is out of use; {used}", file=sys.stderr)


def remove(context: typer.Context, adapter: AdapterIds, config: Config = None) -> None:
    """Remove adapters that are not in use; what is known of them stays in the log."""
    from agent.engine.digests import forget_kept

    chosen = chosen_in(context, config, False)
    registry = _registry(chosen)
    try:
        for id in adapter:
            print(f"adapter {registry.remove(id).id} is removed", file=sys.stderr)
    finally:
        forget_kept(chosen.load().paths.cache)


def merge(
    context: typer.Context,
    adapter: AdapterIds,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="W,W,...", help="One for each; default: equal shares.")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", metavar="R", min=0, help="Cut down to this rank; 0: exact.")] = 0,
    config: Config = None,
) -> None:
    """Make one adapter of several: the weighted sum of what they change."""
    from agent.learning.combining import write_weighted

    chosen = chosen_in(context, config, False)
    registry = _registry(chosen)
    members = [registry.find(id) for id in adapter]
    shares = _weights(weights) if weights else [1 / len(members)] * len(members)
    with tempfile.TemporaryDirectory(prefix="whetstone-merge-") as folder:
        made = write_weighted(Path(folder) / "m", members, shares, cache=chosen.load().paths.cache, rank=rank)
        print(registry.add(made).id)


def ensemble(context: typer.Context, adapter: AdapterIds, config: Config = None) -> None:
    """Let several adapters decide together: their probabilities are averaged at every token."""
    from agent.learning.combining import write_ensemble

    registry = _registry(chosen_in(context, config, False))
    with tempfile.TemporaryDirectory(prefix="whetstone-ensemble-") as folder:
        made = write_ensemble(Path(folder) / "m", [registry.find(id) for id in adapter])
        print(registry.add(made).id)


def export(
    context: typer.Context,
    adapter: AdapterId,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="A folder that does not exist yet.")],
    merged: Annotated[bool, typer.Option("--merged", help="The whole model with the adapter inside it.")] = False,
    quantize: Annotated[
        str, typer.Option("--quantize", metavar="FORMAT", help="With --merged: int8, a quarter of the size.")
    ] = "",
    config: Config = None,
) -> None:
    """Copy an adapter (peft's format) somewhere else, or write the base with it inside."""
    from agent.learning.combining import write_merged

    chosen = chosen_in(context, config, False)
    entry = _registry(chosen).find(adapter)
    if out.exists():
        raise UsageError(f"{out} is there already: name a folder that does not exist yet.")
    if quantize and not merged:
        raise UsageError("--quantize is for whole models: give --merged too.")
    if merged:
        write_merged(out, _base(chosen), entry, cache=chosen.load().paths.cache, quantize=quantize)
    else:
        shutil.copytree(entry.folder, out)
    print(f"adapter {entry.id} is in {out}", file=sys.stderr)


def purge(
    context: typer.Context,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Whole id of the session to take out.")],
    source: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE...]", help="Where the other sessions lie; default: here.")
    ] = None,
    no_rebuild: Annotated[bool, typer.Option("--no-rebuild", help="Remove, and train nothing.")] = False,
    say: Annotated[bool, typer.Option("--dry-run", help="Only say what was trained on it.")] = False,
    config: Config = None,
) -> None:
    """Take a session out of what was learned from it: remove those adapters, and train them without it."""
    from agent.learning import purging
    from agent.learning.sources import find_sources

    chosen = chosen_in(context, config, False)
    registry, settings = _registry(chosen), chosen.load()
    found = purging.trained_on(registry, session)
    for entry in found:
        print(f"adapter {entry.id} ({entry.state}) was trained on it", file=sys.stderr)
    if say:
        return
    with tempfile.TemporaryDirectory(prefix="whetstone-purge-") as folder:
        done = purging.purge(
            registry,
            session,
            base=None if no_rebuild or not found else _base(chosen),
            sources=find_sources(settings.sessions_folder(), source or ()),
            out=Path(folder),
            cache=settings.paths.cache,
        )
    for each in done:
        new = f"; {each.rebuilt} is trained without it, judge it with `gate`" if each.rebuilt else ""
        print(f"adapter {each.id} is removed{' and was in use' if each.was_in_use else ''}{new}", file=sys.stderr)


def _registry(chosen: Chosen) -> Registry:
    from agent.learning.adapters import Registry

    return Registry(chosen.load().adapters_folder())


def _base(chosen: Chosen) -> LoadedModel:
    from agent.engine.models import load_model

    settings = chosen.load()
    return load_model(settings.model.name, dtype="fp32", cache=settings.paths.cache)


def _weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weights takes numbers separated by commas, not {text!r}.") from error
