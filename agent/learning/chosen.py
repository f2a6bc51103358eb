"""Which adapter a session runs with: `--adapter` named, `auto` or `none`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from agent.engine.adapter import CARD, Lineage
from agent.learning.adapters import Registry, check_entry
from agent.settings import Settings

PACKAGED = "starter_adapter"
"""The folder in the package that holds the starter's own adapter."""


def chosen_adapter(settings: Settings) -> Path | Callable[[Lineage], Path | None] | None:
    """What `model.adapter` names: a folder, an adapter of the registry by its id, nothing, or for `auto` a function
    from a base's lineage to its adapter. Raises WhetstoneError for an id that is not there."""
    name = settings.model.adapter
    if name == "none":
        return None
    registry = Registry(settings.adapters_folder())
    if name == "auto":
        return lambda lineage: automatic(registry, lineage)
    if Path(name).expanduser().is_dir() or "/" in name:
        return Path(name).expanduser()
    entry = registry.find(name)
    check_entry(entry)
    return entry.folder


def automatic(registry: Registry, lineage: Lineage) -> Path | None:
    """The adapter in use for a base: the promoted one, else the one that came with the package, else none.

    Raises WhetstoneError if the promoted one is damaged: to go on quietly with another model would be worse.
    """
    entry = registry.promoted(lineage)
    if entry is not None:
        check_entry(entry)
        return entry.folder
    return packaged(lineage)


def packaged(lineage: Lineage) -> Path | None:
    """The adapter that came with the package, if it belongs to this base."""
    folder = Path(str(resources.files("agent").joinpath(PACKAGED)))
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if all(card.get(key) == value for key, value in asdict(lineage).items()) else None
