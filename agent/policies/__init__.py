"""What chooses the next action: a local model, a served one, or a script."""

from __future__ import annotations

from pathlib import Path

from agent.settings import Settings
from agent.types import Policy

SCRIPTED = "scripted:"
SERVED = ("http://", "https://")


def open_policy(settings: Settings, session: str) -> Policy:
    """The policy that `model.name` names, loaded. Raises WhetstoneError where it cannot be."""
    name = settings.model.name
    if name.startswith(SCRIPTED):
        from agent.policies.scripted import ScriptedPolicy

        return ScriptedPolicy.from_file(Path(name.removeprefix(SCRIPTED)))
    if name.startswith(SERVED):
        from agent.policies.served import ServedPolicy

        return ServedPolicy.open(settings)
    from agent.policies.local import LocalPolicy

    return LocalPolicy.open(settings, session)
