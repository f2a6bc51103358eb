"""Goals per minute against goals in flight, on one loaded model; and the same goals one after another in smolagents.

    python -m benchmarks.batch [--model starter] [--goals 32 | --suite FILE] [--in-flight 1 2 4 8 16] [--peer]

Each line is a process of its own that loads the model first and is timed after that. What is counted is work: steps and
generated tokens are reported beside the goals, and how many finished (and passed their check, if there is one). A goal
ends after `--seconds` at the latest; how many were cut off so is the column "out of time". CPU-seconds include
sandboxes and everything else the process started; memory is the peak of the process. `--peer` needs `pip install
smolagents peft` and runs the same goals through smolagents (`benchmarks/batch_peer.py`), in fp32: give `--dtype fp32`
to compare in one number format.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.batch import run_rows
from agent.batch.models import SharedModels
from agent.batch.results import Result
from agent.goalfile import GoalRow, read_goals
from agent.settings import Settings, load_settings
from agent.types import Budget, Ending, Goal

WORKSPACE = Path(__file__).parent.parent / "workspace"
TEXTS = (
    "Read notes.txt and tell me what it is about",
    "What is the port of the printer in settings.ini?",
    "Write the text 'closed on Mondays, number {n}' to the file sign.txt",
    "How many espressos were sold in total according to sales.csv?",
    "Which file mentions the supplier?",
    "Use Python to compute {n} * 17 and write the result to product.txt",
)


def rows_of(options: argparse.Namespace) -> list[GoalRow]:
    """Those of the suite, or `--goals` on copies of the sample workspace. Each ends: in steps, tokens and seconds."""
    budget = Budget(steps=options.steps, tokens=200 * options.steps, seconds=options.seconds, action_tokens=200)
    if options.suite:
        return [bounded(row, options.seconds) for row in read_goals(options.suite, budget=budget)]
    texts = [TEXTS[n % len(TEXTS)].format(n=n) for n in range(options.goals)]
    return [GoalRow(f"g{n}", Goal(text, budget=budget), workspace=WORKSPACE) for n, text in enumerate(texts)]


def bounded(row: GoalRow, seconds: float) -> GoalRow:
    budget = replace(row.goal.budget, seconds=min(seconds, row.goal.budget.seconds))
    return replace(row, goal=replace(row.goal, budget=budget))


def settings_of(options: argparse.Namespace, folder: str) -> Settings:
    """The settings of both sides."""
    flags = {"model.name": options.model, "model.adapter": options.adapter, "model.dtype": options.dtype}
    return load_settings({**flags, "approval.mode": "auto", "paths.data": f"{folder}/data"})


def measure(options: argparse.Namespace, in_flight: int) -> dict[str, Any]:
    """One line of the table, in this process."""
    rows = rows_of(options)
    with tempfile.TemporaryDirectory() as folder, closing(SharedModels(in_flight)) as models:
        settings = settings_of(options, folder)
        models.identity(settings)  # loads
        before, began = cpu_seconds(), time.monotonic()
        results = run_rows(settings, rows, out=Path(folder) / "out", in_flight=in_flight, models=models)
        return line(f"-j {in_flight}", results, time.monotonic() - began, cpu_seconds() - before)


def line(name: str, results: Sequence[Result], wall: float, cpu: float) -> dict[str, Any]:
    count = len(results)
    return {
        "name": name,
        "goals": count,
        "goals_per_minute": 60 * count / wall,
        "tokens_per_second": sum(r.tokens for r in results) / wall,
        "steps": sum(r.steps for r in results) / count,
        "cpu_seconds_per_goal": cpu / count,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "succeeded": sum(r.succeeded for r in results),
        "out_of_time": sum(r.ending == Ending.OUT_OF_TIME for r in results),
        "wall_seconds": wall,
    }


def measure_peer(options: argparse.Namespace) -> dict[str, Any]:
    """The same goals through smolagents, one after another."""
    from benchmarks.batch_peer import load_peer, run_peer

    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(options, folder)
        model = load_peer(settings)
        before, began = cpu_seconds(), time.monotonic()
        results = list(run_peer(model, settings, rows_of(options)))
        return line("smolagents", results, time.monotonic() - began, cpu_seconds() - before)


def cpu_seconds() -> float:
    """Of this process and all that it started and that has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_process(arguments: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.batch", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--adapter", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--suite", help="a file of goals instead of the built-in ones")
    parser.add_argument("--goals", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="steps of one goal at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of one goal at most")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--peer", action="store_true", help="also run smolagents")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_peer(options) if options.one == "peer" else measure(options, int(options.one))))
        return
    passed = ["--model", options.model, "--adapter", options.adapter, "--dtype", options.dtype]
    passed += ["--goals", str(options.goals), "--steps", str(options.steps), "--seconds", str(options.seconds)]
    passed += [*(["--suite", options.suite] if options.suite else [])]
    which = options.suite or f"{options.goals} goals"
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {which}", flush=True)
    print(
        "|  | goals/min | tokens/s | steps | CPU-s/goal | peak MB | finished | out of time | wall s |\n"
        + "| --- " * 9
        + "|"
    )
    for one in [*map(str, options.in_flight), *(["peer"] if options.peer else [])]:
        row = in_process([*passed, "--one", one])
        print(
            f"| {row['name']} | {row['goals_per_minute']:.1f} | {row['tokens_per_second']:.0f} | {row['steps']:.1f} |"
            f" {row['cpu_seconds_per_goal']:.1f} | {row['peak_mb']:.0f} | {row['succeeded']}/{row['goals']} |"
            f" {row['out_of_time']} | {row['wall_seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
