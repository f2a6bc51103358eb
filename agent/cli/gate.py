"""The command that judges an adapter."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent.cli import UsageError
from agent.cli.options import Config, Json, chosen_in
from agent.types import WhetstoneError


def gate(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A candidate of the registry.")],
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Held-out goals with checks.")],
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="FAMILY", help="What it was trained for. Repeatable.")
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="ADAPTER", help="Trained on as many random sessions.")
    ] = None,
    no_control: Annotated[bool, typer.Option("--no-control", help="Judge without one.")] = False,
    no_secret: Annotated[bool, typer.Option("--no-secret", help="Judge although no secret was planted.")] = False,
    kl: Annotated[float, typer.Option("--kl-budget", metavar="NATS", min=0, help="0: do not measure.")] = 0.1,
    promote: Annotated[bool, typer.Option("--promote", help="Use it from now on if it passes.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where the evaluations go.")] = None,
    in_flight: Annotated[int, typer.Option("-j", "--in-flight", metavar="N", min=1, help="Goals at a time.")] = 8,
    config: Config = None,
    json: Json = False,
) -> None:
    """Judge a candidate on held-out goals: promote, reject or inconclusive, with the reasons (exit code 0, 1 or 3)."""
    from agent.goalfile import read_goals
    from agent.learning.adapters import Registry
    from agent.learning.gate import Rules
    from agent.learning.gating import Arena, run_gate

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    registry = Registry(settings.adapters_folder())
    try:
        candidate = registry.find(adapter)
        against = None if control is None else registry.find(control).folder
        rows = read_goals(suite, budget=settings.goal_budget())
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
    rules = Rules(kl_budget=kl, need_control=not no_control, need_secret=not no_secret)
    place = settings.paths.data / "gate" if out is None else out
    arena = Arena(settings, rows, Path(suite).name, place, in_flight, lambda line: print(line, file=sys.stderr))
    judged = run_gate(arena, registry, candidate, target=target or (), control=against, rules=rules)
    verdict = judged.verdict
    if chosen.json:
        print(json_module.dumps(verdict.as_data()))
    else:
        print(f"{candidate.id}: {verdict.verdict}")
        print("\n".join(f"  {reason}" for reason in verdict.reasons))
    if promote and verdict.verdict == "promote":
        registry.promote(candidate.id)
        print(f"adapter {candidate.id} is in use for its base; `adapters rollback` takes it back", file=sys.stderr)
    raise typer.Exit({"promote": 0, "reject": 1, "inconclusive": 3}[verdict.verdict])
