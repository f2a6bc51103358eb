"""The goals of `benchmarks.batch` through smolagents, one after another: the same weights, workspaces, tools, limits.

Its `ToolCallingAgent` gets our own tools (files, search, Python in the sandbox), so that both do the same work in them,
and its own way to finish; `TransformersModel` is the base with our adapter merged, in fp32. It has no budget of tokens
in all, which steps and tokens of a step bound here.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.batch.folder import Layout
from agent.batch.goals import GoalRunner, Shared
from agent.batch.results import Result
from agent.batch.stopping import Stopping
from agent.check import Verifier
from agent.goalfile import GoalRow
from agent.parts import Parts, Supplied, open_parts, open_sandbox_in
from agent.policies.scripted import ScriptedPolicy
from agent.settings import Settings
from agent.types import Ending
from tools.base import Tool, ToolContext


class TimeUp(BaseException):
    """The goal's seconds are over. No `Exception`, which the framework would take for a failed step."""


def load_peer(settings: Settings) -> Any:
    """smolagents' model of the base and the adapter that the settings name, in fp32. Raises WhetstoneError."""
    from smolagents import TransformersModel  # pyright: ignore[reportMissingImports]

    from agent.policies.local import load_chosen

    loaded = load_chosen(settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": "fp32"})}))
    base, adapter = str(loaded.folder), loaded.adapter
    del loaded
    gc.collect()
    model = TransformersModel(base, device_map="cpu", torch_dtype="float32", do_sample=False)
    if adapter is not None:
        from peft import PeftModel

        merged: Any = PeftModel.from_pretrained(model.model, str(adapter.folder))
        model.model = merged.merge_and_unload()
    return model


def run_peer(model: Any, settings: Settings, rows: Sequence[GoalRow]) -> Generator[Result]:
    """Run each goal with the model of `load_peer`. Raises WhetstoneError where a workspace cannot be made."""
    with TemporaryDirectory() as folder, Shared.opened(settings, 1) as shared:
        runner = GoalRunner(settings, Layout(Path(folder)), shared, None, "none", Stopping())
        for row in rows:
            runner.prepare(row)
            there = runner.settings_of(row)
            supplied = Supplied(memory=lambda: None, sandbox=shared.sandbox.open)
            with open_parts(there, row.goal, lambda: ScriptedPolicy([]), autonomous=True, supplied=supplied) as parts:
                yield _run(model, there, row, parts)


def _run(model: Any, settings: Settings, row: GoalRow, parts: Parts) -> Result:
    from smolagents import ToolCallingAgent  # pyright: ignore[reportMissingImports]

    budget = row.goal.budget
    model.kwargs["max_new_tokens"] = budget.action_tokens
    tools = [_wrapped(tool, settings, row, parts) for tool in parts.tools if tool.name != "finish"]
    agent = ToolCallingAgent(tools, model, max_steps=budget.steps, verbosity_level=0)
    began, answer, ending = time.monotonic(), None, Ending.ERROR
    try:
        with _at_most(budget.seconds):
            done = agent.run(row.goal.text, return_full_result=True)
        answer, ending = done.output, Ending.FINISHED if done.state == "success" else Ending.OUT_OF_STEPS
    except TimeUp:
        ending = Ending.OUT_OF_TIME
    except Exception as error:  # also what the framework raises where the model's text is no call
        print(f"{row.id}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    if ending == Ending.FINISHED and row.goal.check is not None:
        verifier = Verifier(parts.workspace, lambda copy: open_sandbox_in(settings, copy)[0], settings.limits())
        if not verifier.verify(row.goal.check, answer).passed:
            ending = Ending.FAILED_CHECK
    steps = sum(type(step).__name__ == "ActionStep" for step in agent.memory.steps)
    tokens = agent.monitor.total_output_token_count  # without those of a step that was cut off
    return Result(row.id, ending, steps=steps, tokens=tokens, seconds=time.monotonic() - began)


@contextmanager
def _at_most(seconds: float) -> Generator[None]:
    def over(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _wrapped(tool: Tool, settings: Settings, row: GoalRow, parts: Parts) -> Any:
    """One of our tools as one of smolagents'."""
    import smolagents  # pyright: ignore[reportMissingImports]

    context = ToolContext(
        workspace=parts.workspace,
        sandbox=parts.sandbox,
        limits=settings.limits(),
        memory=None,
        goal=row.goal,
        session=row.id,
        step=1,
        max_chars=settings.tools.max_chars,
    )

    def forward(_: object, **arguments: Any) -> str:
        return tool.call(context, {key: value for key, value in arguments.items() if value is not None}).text

    properties: Mapping[str, Any] = tool.schema["properties"]
    required = tool.schema["required"]
    described: dict[str, Any] = {
        "name": tool.name,
        "description": tool.summary,
        "inputs": {name: _input(name, schema, optional=name not in required) for name, schema in properties.items()},
        "output_type": "string",
        "forward": forward,
        "skip_forward_signature_validation": True,
    }
    return type(f"Wrapped_{tool.name}", (smolagents.Tool,), described)()


def _input(name: str, schema: Mapping[str, Any], *, optional: bool) -> dict[str, Any]:
    kinds = [part.get("type", "any") for part in schema.get("anyOf", [schema])]
    kind = next((each for each in kinds if each != "null"), "any")
    given = {"type": kind, "description": schema.get("description", name.replace("_", " "))}
    return given | ({"nullable": True} if optional or "null" in kinds else {})
