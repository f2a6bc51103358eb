"""Everything one session runs on, opened side by side: workspace, sandbox, memory, policy, tools."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import agent
from agent.journal import SCHEMA_VERSION
from agent.settings import Settings
from agent.types import JSON, Capability, Goal, Memory, Policy, Sandbox
from memory import open_memory
from prompts import system_text, templates_digest
from tools.base import Tool
from tools.plugins import load_tools
from tools.sandbox import open_sandbox
from tools.schema import action_schema, describe_tools
from tools.workspace import Workspace

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Parts:
    """What a session runs on.

    `capabilities` says of each rung of the sandbox that was tried what became of it; `startup` how many seconds each
    part took to open, which they do beside each other.
    """

    policy: Policy
    workspace: Workspace
    sandbox: Sandbox | None
    capabilities: tuple[Capability, ...]
    memory: Memory | None
    tools: Sequence[Tool]
    schema: Mapping[str, JSON]
    startup: Mapping[str, float] = field(default_factory=dict[str, float])

    def notices(self) -> list[str]:
        """What a person should know before the first step, one sentence each."""
        if self.sandbox is None and self.capabilities and self.capabilities[-1].available:
            rung = self.capabilities[-1].rung
            return [
                f"run_python is not available because only a reduced sandbox ({rung}) works here and nobody watches:"
                f" {self._better()}accept that with -c sandbox.rung={rung}"
            ]
        if self.sandbox is None and self.capabilities:
            why = "; ".join(f"{c.rung}: {c.reason.rstrip('.')}" for c in self.capabilities)
            return [f"run_python is not available because no sandbox works here ({why}); `doctor` says how to mend it"]
        if self.sandbox is not None and self.sandbox.capability.reduced:
            rung = self.sandbox.capability.rung
            return [
                f"the sandbox is reduced ({rung}), so scripts are run only when they are allowed: {self._better()}see"
                " with `doctor` what it does not hold"
            ]
        return []

    def _better(self) -> str:
        """What would make a full sandbox work, with the words that lead on from it."""
        fixes = [capability.fix for capability in self.capabilities if not capability.available and capability.fix]
        return f"{fixes[0]} for a full one, or " if fixes else ""


@dataclass(frozen=True)
class Supplied:
    """What the sessions of a batch are given instead of opening it themselves; None is opened as the settings say."""

    memory: Callable[[], Memory | None] | None = None
    sandbox: Callable[[Path], tuple[Sandbox | None, tuple[Capability, ...]]] | None = None
    """Given the workspace."""
    interrupted: Callable[[], bool] | None = None
    """Asked between steps and tokens, instead of listening for Ctrl-C."""


@contextlib.contextmanager
def open_parts(
    settings: Settings,
    goal: Goal,
    open_policy: Callable[[], Policy],
    *,
    autonomous: bool,
    supplied: Supplied | None = None,
) -> Generator[Parts]:
    """Open all parts, and close them in the end. The sandbox and the memory start in threads while the model loads.

    `autonomous` says that every action is allowed and nobody watches: then a reduced sandbox is used only where the
    settings ask for it by name. `supplied` parts are closed like the others.

    Raises WhetstoneError for the first part that cannot be opened; the others are closed.
    """
    # Two threads that import numpy at once, one by its inner modules, can each find the other's half of it.
    import numpy  # noqa: F401  # pyright: ignore[reportUnusedImport]

    settings.refuse_overlap()
    with contextlib.ExitStack() as stack:
        workspace = stack.enter_context(Workspace(settings.paths.workspace))
        threads = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="start"))
        supplied = supplied or Supplied()
        in_folder = supplied.sandbox or partial(open_sandbox_in, settings)
        startup: dict[str, float] = {}
        opening_sandbox = threads.submit(_timed, startup, "sandbox", partial(in_folder, settings.paths.workspace))
        stack.callback(_close, opening_sandbox, lambda opened: opened[0])
        opening = supplied.memory or partial(_open_memory, settings)
        opening_memory = threads.submit(_timed, startup, "memory", opening)
        stack.callback(_close, opening_memory, lambda opened: opened)
        policy = _timed(startup, "model", open_policy)
        stack.callback(policy.close)
        sandbox, capabilities = opening_sandbox.result()
        if sandbox is not None and autonomous and too_weak_to_be_alone(settings, sandbox):
            sandbox = None
        memory = opening_memory.result()
        tools = load_tools(
            plugins=settings.tools.plugins,
            enabled=settings.tools.enabled,
            sandbox=sandbox is not None,
            memory=memory is not None,
            answer_schema=goal.answer_schema,
            request_training=_request_training(settings),
        )
        yield Parts(policy, workspace, sandbox, capabilities, memory, tools, action_schema(tools), startup)


def open_sandbox_in(settings: Settings, folder: Path) -> tuple[Sandbox | None, tuple[Capability, ...]]:
    """The sandbox that the settings ask for, on `folder`; None where none holds, or where `none` is asked for."""
    if settings.sandbox.rung == "none":
        return None, ()
    return open_sandbox(
        folder,
        rung=settings.sandbox.rung,
        packages=settings.sandbox.packages,
        container_image=settings.sandbox.container_image,
    )


def too_weak_to_be_alone(settings: Settings, sandbox: Sandbox) -> bool:
    """Whether the sandbox is a reduced one that nobody asked for by name."""
    return sandbox.capability.reduced and settings.sandbox.rung == "auto"


def header(settings: Settings, goal: Goal, session: str, parts: Parts, *, parent: JSON = None) -> dict[str, JSON]:
    """The `session` event: all that is needed to run, resume and replay the session the same way."""
    rung = None if parts.sandbox is None else parts.sandbox.capability
    return {
        "schema": SCHEMA_VERSION,
        "session": session,
        "version": agent.__version__,
        "goal": {**asdict(goal), "tags": list(goal.tags)},
        "system": system_text(tools=describe_tools(parts.tools)),
        "templates_digest": templates_digest(),
        "policy": dict(parts.policy.describe()),
        "tools": [
            {"name": t.name, "summary": t.summary, "effects": sorted(t.effects), "schema": t.schema}
            for t in parts.tools
        ],
        "action_schema": parts.schema,
        "tools_digest": hashlib.sha256(json.dumps(parts.schema, sort_keys=True).encode()).hexdigest(),
        "sandbox": {
            "rung": "none" if rung is None else rung.rung,
            "reduced": rung is not None and rung.reduced,
            "reason": "; ".join(c.reason for c in parts.capabilities) if rung is None else rung.reason,
        },
        "memory": parts.memory is not None,
        "workspace": str(parts.workspace.root),
        "settings": settings.flat(),
        "seed": settings.sampling.seed,
        "startup": {name: round(seconds, 3) for name, seconds in parts.startup.items()},
        "parent": parent,
    }


def _timed(startup: dict[str, float], name: str, opening: Callable[[], Opened]) -> Opened:
    began = time.perf_counter()
    opened = opening()
    startup[name] = time.perf_counter() - began
    return opened


def _request_training(settings: Settings) -> Callable[[str, str], str] | None:
    if not settings.learning.fine_tune:
        return None
    from agent.learning.requests import TrainingRequests

    return TrainingRequests(settings).ask


def _open_memory(settings: Settings) -> Memory | None:
    if not settings.memory.enabled:
        return None
    return open_memory(settings.paths.data / "memory", embedder=settings.memory.embedder, cache=settings.paths.cache)


def _close(opening: Future[Any], closable: Callable[[Any], Any]) -> None:
    """Close what a thread opened, also when another part failed to open meanwhile."""
    if opening.exception() is None and (opened := closable(opening.result())) is not None:
        opened.close()
