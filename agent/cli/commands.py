"""All commands, put together."""

from __future__ import annotations

from typing import cast

import typer
from typer.core import TyperGroup

from agent.cli import (
    UsageError,
    adapters,
    batches,
    curriculum,
    dataset,
    gate,
    improve,
    logs,
    look,
    memory,
    options,
    prune,
    replay,
    train,
)
from agent.cli.options import Chosen, approval_mode, config_pairs, given, tool_flags


def build() -> TyperGroup:
    """The root command with its subcommands."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_root)
    config = typer.Typer(rich_markup_mode=None, help="Settings.")
    config.command("show")(look.config_show)
    app.add_typer(config, name="config")
    sessions = typer.Typer(rich_markup_mode=None, help="List the logged sessions, newest first, or remove some.")
    sessions.callback(invoke_without_command=True)(logs.sessions)
    sessions.command("rm")(logs.remove)
    sessions.command("prune")(logs.prune)
    sessions.command("reindex")(logs.reindex)
    app.add_typer(sessions, name="sessions")
    remembered = typer.Typer(rich_markup_mode=None, help="What earlier sessions found out, and your own documents.")
    for command in (memory.add, memory.forget, memory.search, memory.stats, memory.export, memory.rebuild):
        remembered.command()(command)
    remembered.command()(memory.ablate)
    remembered.command("list")(memory.list_records)
    remembered.command("verify")(memory.verify)
    app.add_typer(remembered, name="memory")
    taught = typer.Typer(
        rich_markup_mode=None, help="Small goals with teachers that solve them, to train and to test on."
    )
    taught.command("list")(curriculum.list_families)
    taught.command()(curriculum.make)
    taught.command()(curriculum.teach)
    app.add_typer(taught, name="curriculum")
    datasets = typer.Typer(rich_markup_mode=None, help="Sessions as data to learn from.")
    for command in (dataset.build, dataset.show, dataset.stats, dataset.export, dataset.rate):
        datasets.command()(command)
    app.add_typer(datasets, name="dataset")
    registry = typer.Typer(rich_markup_mode=None, help="What was trained, and which of it is in use.")
    registry.command("list")(adapters.list_adapters)
    registry.command("rm")(adapters.remove)
    for command in (adapters.show, adapters.diff, adapters.add, adapters.promote, adapters.rollback):
        registry.command()(command)
    for command in (adapters.merge, adapters.ensemble, adapters.export, adapters.purge):
        registry.command()(command)
    app.add_typer(registry, name="adapters")
    app.command()(batches.batch)
    app.command("eval")(batches.evaluate)
    app.command()(train.train)
    app.command()(prune.prune)
    app.command()(gate.gate)
    app.command()(improve.improve)
    for command in (look.doctor, look.tools, logs.show, logs.verify, logs.export, replay.replay):
        app.command()(command)
    return cast("TyperGroup", typer.main.get_command(app))


def _root(
    context: typer.Context,
    goal: options.GoalText = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    workspace: options.Workspace = None,
    check: options.Check = None,
    answer_schema: options.AnswerSchema = None,
    resume: options.Resume = None,
    force: options.Force = False,
    max_steps: options.MaxSteps = None,
    max_tokens: options.MaxTokens = None,
    timeout: options.Timeout = None,
    yes: options.Yes = False,
    non_interactive: options.NonInteractive = False,
    approve: options.Approve = None,
    tools: options.Tools = None,
    no_memory: options.NoMemory = False,
    seed: options.Seed = None,
    temperature: options.Temperature = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    profile: options.Profile = False,
    _version: options.Version = False,
) -> None:
    """An autonomous agent that runs on your own model, on your own machine.

    Give it a goal: python -m agent --goal "What is notes.txt about?"
    """
    flags = given(
        {
            "model.name": model,
            "model.adapter": adapter,
            "paths.workspace": workspace,
            "budget.steps": max_steps,
            "budget.tokens": max_tokens,
            "budget.seconds": timeout,
            "approval.mode": approval_mode(approve, yes),
            "memory.enabled": False if no_memory else None,
            "sampling.seed": seed,
            "sampling.temperature": temperature,
        }
    )
    context.obj = Chosen(flags | tool_flags(tools), config_pairs(config), json)
    if context.invoked_subcommand is not None:
        if goal is not None or resume is not None:
            what = "--goal" if goal is not None else "--resume"
            name = context.invoked_subcommand
            raise UsageError(f"{what} and the command {name!r} do not go together: give one of them.")
        return
    from agent.cli import run

    if resume is not None:
        if goal is not None or check is not None:
            raise UsageError(
                "--resume goes on with the goal and the check of its session: leave out --goal and --check."
            )
        code = run.resume(
            context.obj,
            resume or None,
            force=force,
            interactive=not non_interactive,
            quiet=quiet,
            profiled=profile,
        )
    elif goal is not None:
        code = run.run(
            context.obj,
            goal,
            check,
            answer_schema,
            interactive=not non_interactive,
            quiet=quiet,
            profiled=profile,
        )
    else:
        raise UsageError('Give a goal, as in --goal "What is notes.txt about?"; --help shows all commands.')
    raise typer.Exit(code)
