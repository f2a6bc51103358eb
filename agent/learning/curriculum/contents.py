"""What training goals and their files are made of beside the pools that both splits share.

A model that has seen eighteen bugs learns eighteen mends by heart; one that has seen hundreds has to look. These lists
are in `contents/`, one TOML file for each module of families, and are for training only (`Draw.pick`): held-out goals
keep to their shares of the pools in the modules.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def contents(module: str, name: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(_loaded(module)[name])


@cache
def rows(module: str, name: str) -> tuple[tuple[str, ...], ...]:
    """A list of rows of texts."""
    return tuple(tuple(row) for row in _loaded(module)[name])


@cache
def groups(module: str, name: str) -> dict[str, tuple[str, ...]]:
    """Lists of texts, by what they have in common."""
    return {key: tuple(texts) for key, texts in _loaded(module)[name].items()}


@cache
def _loaded(module: str) -> dict[str, Any]:
    text = resources.files("agent.learning.curriculum").joinpath(f"contents/{module}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
