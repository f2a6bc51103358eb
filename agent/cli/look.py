"""The commands that look at this machine: doctor, tools, config show."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated

import typer

from agent.cli.options import Config, Json, chosen_in


def doctor(
    context: typer.Context,
    timings: Annotated[
        bool, typer.Option("--timings", help="Start everything, and say how long each part took to the first token.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what works on this machine, and how to mend what does not."""
    from agent.doctor import examine, print_report

    chosen = chosen_in(context, config, json)
    if timings:
        from agent.cli.run import prepare_run
        from agent.timings import print_timings, time_start

        settings = chosen.load()
        prepare_run(settings)
        print_timings(time_start(settings), sys.stdout, as_json=chosen.json)
        return
    report = examine(chosen.load())
    print_report(report, sys.stdout, as_json=chosen.json)
    raise typer.Exit(0 if report.can_run else 1)


def config_show(context: typer.Context, config: Config = None, json: Json = False) -> None:
    """Print every setting, its value, and where the value came from."""
    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    flat = settings.flat()
    if chosen.json:
        print(json_module.dumps({key: {"value": flat[key], "origin": settings.origin(key)} for key in flat}, indent=2))
        return
    from agent.sanitize import for_terminal
    from agent.settings import setting_keys

    about = setting_keys()
    for key, value in flat.items():
        line = (
            f"{key:<24} = {json_module.dumps(value, ensure_ascii=False):<28} {settings.origin(key):<9} # {about[key]}"
        )
        print(for_terminal(line))


def tools(context: typer.Context, config: Config = None, json: Json = False) -> None:
    """List the tools a run may offer to the model: what each does to the world, and how it is called."""
    from agent.cli.run import let_plugins_be_found
    from agent.sanitize import for_terminal
    from tools.plugins import load_tools

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    let_plugins_be_found(settings)
    offered = load_tools(
        plugins=settings.tools.plugins, enabled=settings.tools.enabled, sandbox=True, memory=settings.memory.enabled
    )
    if chosen.json:
        listed = [
            {
                "name": t.name,
                "summary": t.summary,
                "effects": sorted(t.effects),
                "needs": sorted(t.needs),
                "schema": t.schema,
            }
            for t in offered
        ]
        print(json_module.dumps(listed, indent=2))
        return
    from tools.schema import describe_tools

    for tool in offered:
        does = ", ".join(sorted(tool.effects)) or "nothing"
        needs = f"; needs {', '.join(sorted(tool.needs))}" if tool.needs else ""
        print(for_terminal(f"{describe_tools([tool])}\n    {does}{needs}"))
