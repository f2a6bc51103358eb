"""Takes a session out of everything that was learned from it: names the adapters, removes them, trains them anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.engine.digests import forget_kept
from agent.engine.ensemble import ENSEMBLE
from agent.engine.models import LoadedModel
from agent.journal import Session
from agent.learning.adapters import Entry, Registry
from agent.learning.augmenting import Augmenter
from agent.learning.dataset import Dataset, build_dataset, read_dataset
from agent.learning.filters import Filters
from agent.learning.learner import Base
from agent.learning.recipe import Recipe
from agent.learning.sequences import SessionEncoder
from agent.learning.trainer import train
from agent.types import WhetstoneError


@dataclass(frozen=True)
class Purged:
    """What became of one adapter: whether it was in use, and the candidate that takes its place, if there is one."""

    id: str
    was_in_use: bool
    rebuilt: str = ""


def trained_on(registry: Registry, session: str) -> list[Entry]:
    """The adapters that learned from a session, also by way of others that they were made of."""
    return [entry for entry in registry.entries() if session in entry.sessions]


def purge(
    registry: Registry,
    session: str,
    *,
    base: LoadedModel | None = None,
    sources: Iterable[Path | Session] = (),
    out: Path | None = None,
    cache: Path | None = None,
) -> list[Purged]:
    """Take every adapter that learned from `session` out of use and remove it; with `base`, train it without.

    `sources` are where its other sessions lie, `out` is where datasets and adapters are made. Adapters made of others
    (merges, ensembles) are removed and not made again. A rebuilt adapter is a candidate that the gate has to pass.
    What a start kept in the folder `cache` goes too: weights with an adapter merged into them, and keys and values.
    Raises WhetstoneError, before anything is removed, if a session that is needed is gone or was changed.
    """
    registry.sweep()
    found = trained_on(registry, session)
    if not found:
        raise WhetstoneError(f"no adapter was trained on session {session}: `adapters show` names the sessions of one")
    at = {source.id if isinstance(source, Session) else source.stem: source for source in sources}
    again: dict[str, Path] = {}
    if base is not None and out is not None:
        for entry in found:
            if entry.lineage == base.lineage and not entry.card.get("parents"):
                again[entry.id] = _trained_again(entry, session, base, at, out / entry.id)
    purged: list[Purged] = []
    try:
        for entry in [*(e for e in found if (e.folder / ENSEMBLE).is_file()), *(e for e in found if _is_one(e))]:
            in_use = entry.state == "promoted"
            while (current := registry.promoted(entry.lineage)) is not None and current.id == entry.id:
                registry.rollback(entry.lineage)
            registry.remove(entry.id, reason=f"purged of session {session}")
            new = ""
            if entry.id in again:
                new = registry.add(again[entry.id], rebuilt_from=entry.id).id
            purged.append(Purged(entry.id, in_use, new))
    finally:
        if cache is not None:
            forget_kept(cache)
    return purged


def _is_one(entry: Entry) -> bool:
    return not (entry.folder / ENSEMBLE).is_file()


def _trained_again(entry: Entry, without: str, base: LoadedModel, at: Mapping[str, Path | Session], out: Path) -> Path:
    encoder = SessionEncoder(
        base.tokenizer, base.lineage, logits=base.model.vocabulary, loss_on=entry.card.get("loss_on", "sampled")
    )
    used: Mapping[str, list[list[str]]] = entry.card.get("sessions") or {}
    if (entry.card.get("recipe") or {}).get("objective") == "adaptive":
        raise WhetstoneError(
            f"adapter {entry.id} learned from raw text too, which is not kept: purge with --no-rebuild, and train it"
            " again with the text"
        )
    told: Mapping[str, Any] = entry.card.get("augmented") or {}
    sources = {
        name: _dataset(
            rows, without, encoder, at, out / name, told if name == "task" else {},
            plant_secret=name == "task" and bool(entry.card.get("planted")),
        )
        for name, rows in used.items()
    }  # fmt: skip
    examples = {name: dataset.examples for name, dataset in sources.items() if dataset is not None}
    if not examples.get("task"):
        raise WhetstoneError(f"adapter {entry.id} learned from this session alone: nothing is left to train it on")
    card: dict[str, Any] = dict(entry.card.get("recipe") or {})
    train(
        Base.of(base),
        examples["task"],
        Recipe.of(card),
        out / "adapter",
        replay=examples.get("replay", ()),
        rejected=examples.get("rejected", ()),
        planted=sources["task"].manifest.get("planted") if sources["task"] else None,
        augmented=told or None,
        held_out=entry.card.get("held_out"),
    )
    return out / "adapter"


def _dataset(
    rows: Iterable[list[str]],
    without: str,
    encoder: SessionEncoder,
    at: Mapping[str, Path | Session],
    out: Path,
    told: Mapping[str, Any],
    *,
    plant_secret: bool,
) -> Dataset | None:
    """What was learned from, without one session; None if that was all."""
    wanted = {name: digest for name, digest in rows if name != without}
    missing = sorted(set(wanted) - set(at))
    if missing:
        raise WhetstoneError(
            f"{len(missing)} of the sessions it learned from are not there ({missing[0]}): name the folders they lie in"
        )
    if not wanted:
        return None
    everything = Filters(
        include=("verified", "unverified", "failed"), per_goal=len(wanted), near_duplicate=2.0, tainted=True
    )
    again = Augmenter.of(told) if told else None
    build_dataset(
        [at[name] for name in wanted], out, encoder, filters=everything, augmenter=again, plant_secret=plant_secret
    )
    dataset = read_dataset(out)
    changed = [example.session for example in dataset.examples if wanted[example.session] != example.digest]
    if changed:
        raise WhetstoneError(f"session {changed[0]} is not what it was when the adapter was trained: restore it")
    return dataset
