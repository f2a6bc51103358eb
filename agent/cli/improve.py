"""The command that closes the loop."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import UsageError
from agent.cli.options import Config, Json, chosen_in
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from agent.learning.examples import Example

Number = float | None


def improve(
    context: typer.Context,
    goals: Annotated[str, typer.Argument(metavar="GOALS", help="Goals with checks to get better at.")],
    held_out: Annotated[Path, typer.Option("--held-out", metavar="SUITE", help="Goals the gate measures with.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where everything of the run goes.")],
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="At most.")] = 3,
    samples: Annotated[int, typer.Option("--samples", metavar="K", min=2, help="Sessions of each goal.")] = 8,
    temperature: Annotated[float, typer.Option("--temperature", metavar="T", min=0.05, help="Of the sampling.")] = 1.0,
    per_goal: Annotated[int, typer.Option("--per-goal", metavar="N", min=1, help="Different sessions kept.")] = 4,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="FAMILY", help="Default: the families of GOALS.")
    ] = None,
    older: Annotated[
        str | None, typer.Option("--older", metavar="GOALS", help="Goals of other families, not to be forgotten.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="DATASET", help="Sessions that must not be forgotten.")
    ] = None,
    shuffle_verdicts: Annotated[
        bool, typer.Option("--shuffle-verdicts", help="Deal the verdicts out at random: must not pass the gate.")
    ] = False,
    rank_samples: Annotated[
        bool, typer.Option("--rank-samples", help="Keep the sessions that a discriminator scores highest.")
    ] = False,
    rank: Annotated[int | None, typer.Option("--rank", metavar="R", help="Rank of the LoRA.")] = None,
    learning_rate: Annotated[Number, typer.Option("--lr", metavar="RATE", help="Highest learning rate.")] = None,
    epochs: Annotated[Number, typer.Option("--epochs", metavar="N", help="Times through the data.")] = None,
    kl_weight: Annotated[float, typer.Option("--kl-weight", metavar="W", min=0, help="Of the KL to the base.")] = 1.0,
    kl_budget: Annotated[float, typer.Option("--kl-budget", metavar="NATS", min=0, help="The gate's; 0: none.")] = 0.1,
    max_minutes: Annotated[Number, typer.Option("--max-minutes", metavar="N", help="Of each training.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Same seed, same run.")] = 0,
    in_flight: Annotated[int, typer.Option("-j", "--in-flight", metavar="N", min=1, help="Goals at a time.")] = 8,
    config: Config = None,
    json: Json = False,
) -> None:
    """Sample goals, learn from what was verified, and promote what the gate agrees to (exit code 0 if it did)."""
    from agent.goalfile import read_goals
    from agent.learning.gate import Rules
    from agent.learning.improve import improve as run
    from agent.learning.recipe import Recipe
    from agent.learning.rounds import Plan
    from agent.view.rounds import picture, table_text

    chosen = chosen_in(context, config, json)
    settings = chosen.load()
    given: dict[str, Any] = {
        "rank": rank, "alpha": None if rank is None else 2.0 * rank, "learning_rate": learning_rate, "epochs": epochs,
        "max_minutes": max_minutes,
    }  # fmt: skip
    try:
        recipe = replace(Recipe(kl_weight=kl_weight, seed=seed), **{k: v for k, v in given.items() if v is not None})
        rows = read_goals(goals, budget=settings.goal_budget())
        others = read_goals(older, budget=settings.goal_budget()) if older else []
        remembered = _kept_apart(replay, held_out) if replay else []
    except WhetstoneError as error:
        raise UsageError(str(error)) from error
    plan = Plan(
        rounds=rounds, samples=samples, temperature=temperature, per_goal=per_goal, ranked=rank_samples,
        target=tuple(target or ()), shuffle=shuffle_verdicts, seed=seed, in_flight=in_flight, recipe=recipe,
        rules=Rules(kl_budget=kl_budget),
    )  # fmt: skip
    done = run(
        settings, rows, held_out, out, plan=plan, older=others, replay=remembered,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    (out / "rounds.svg").write_text(picture(done), encoding="utf-8")
    print(json_module.dumps(done.as_data()) if chosen.json else table_text(done))
    promoted = [each.adapter for each in done.rounds if each.verdict == "promote"]
    if promoted:
        print(f"adapter {promoted[-1]} is in use; `adapters rollback` takes it back", file=sys.stderr)
    raise typer.Exit(0 if promoted else 1)


def _kept_apart(replay: Path, suite: Path) -> Sequence[Example]:
    """The examples to replay. Raises WhetstoneError if their dataset was not kept apart from the held-out suite."""
    from agent.learning.dataset import read_dataset
    from agent.learning.heldout import read_held_out

    dataset = read_dataset(replay)
    if not set(read_held_out([suite]).suites) <= set(dataset.manifest["held_out"].get("suites", ())):
        raise WhetstoneError(
            f"the dataset {replay} was not kept apart from {suite}: build it again with --held-out {suite}"
        )
    return dataset.examples
