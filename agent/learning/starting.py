"""Trainings that go on from an adapter instead of from nothing.

A long training can so be done in pieces, each on sessions of its own. What it learned before stays in its card: the
adapter it began with is its parent, and that one's sessions are among its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import CARD, WEIGHTS, Adapter
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.learning.learner import Learner


def begin_from(learner: Learner, start: Adapter, recipe: Recipe) -> None:
    """Give the learner's parameters the values of an adapter.

    Raises WhetstoneError for another method than `lora` and `rslora`, or if the adapter is not one that `recipe` would
    make: of its rank, its scale and its layers.
    """
    import torch
    from safetensors.torch import load_file

    if recipe.method not in ("lora", "rslora"):
        raise WhetstoneError(f"a training can start from a lora or an rslora, not from a {recipe.method}")
    values = load_file(start.folder / WEIGHTS)
    mine = {name.replace(".default", ""): parameter for name, parameter in learner.parameters.items()}
    wanted = {"r": recipe.rank, "lora_alpha": recipe.alpha, "use_rslora": recipe.method == "rslora"}
    differing = [f"{name} {start.config.get(name)}" for name in wanted if start.config.get(name, False) != wanted[name]]
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if not differing and shapes != {name: tuple(parameter.shape) for name, parameter in mine.items()}:
        differing = ["other layers"]
    if differing:
        raise WhetstoneError(
            f"the adapter {start.folder} has {', '.join(differing)}, and this training would make another: give it the"
            " method, --rank, --alpha, --targets and --layers that the adapter was made with"
        )
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(values[name])
    learner.refresh()


def parent_of(start: Adapter) -> dict[str, Any]:
    """What the card says of the adapter that a training went on from: its id, the sessions it had learned from, and the
    suites that were kept out of those (`held_out`)."""
    from agent.learning.adapters import adapter_id

    try:
        card: dict[str, Any] = json.loads((start.folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"parents": [start.digest[:12]], "sessions": {}, "held_out": []}
    learned = [list(one) for used in (card.get("sessions") or {}).values() for one in used]
    return {
        "parents": [adapter_id(start.folder, card)],
        "sessions": {"before": learned},
        "held_out": list(card.get("held_out") or ()),
    }
