"""Goals per minute against goals in flight, on one loaded model; and the same goals one after another in smolagents.

    python -m benchmarks.batch [--model starter] [--goals 32] [--in-flight 1 2 4 8 16] [--peer]

Each line is a process of its own that loads the model first and is timed after that. What is counted is work, not
success: steps and generated tokens are reported beside the goals. CPU-seconds include sandboxes and everything else the
process started; memory is the peak of the process. `--peer` needs `pip install smolagents` and runs its
`ToolCallingAgent` with `TransformersModel` on the same weights in fp32, with tools of the same names on the same files.
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
from pathlib import Path
from typing import Any

from agent.batch import run_rows
from agent.batch.models import SharedModels
from agent.goalfile import GoalRow, read_goals
from agent.settings import load_settings
from agent.types import Budget, Goal

WORKSPACE = Path(__file__).parent.parent / "workspace"
TEXTS = (
    "Read notes.txt and tell me what it is about",
    "What is the port of the printer in settings.ini?",
    "Write the text 'closed on Mondays, number {n}' to the file sign.txt",
    "How many espressos were sold in total according to sales.csv?",
    "Which file mentions the supplier?",
    "Use Python to compute {n} * 17 and write the result to product.txt",
)


def goals(count: int, steps: int) -> list[GoalRow]:
    """`count` goals on copies of the sample workspace."""
    budget = Budget(steps=steps, tokens=200 * steps, action_tokens=200)
    texts = [TEXTS[n % len(TEXTS)].format(n=n) for n in range(count)]
    return [GoalRow(f"g{n}", Goal(text, budget=budget), workspace=WORKSPACE) for n, text in enumerate(texts)]


def measure(options: argparse.Namespace, in_flight: int) -> dict[str, Any]:
    """One line of the table, in this process."""
    rows = read_goals(options.suite) if options.suite else goals(options.goals, options.steps)
    with tempfile.TemporaryDirectory() as folder, closing(SharedModels(in_flight)) as models:
        flags = {"model.name": options.model, "model.dtype": options.dtype, "approval.mode": "auto"}
        settings = load_settings({**flags, "paths.data": f"{folder}/data"})
        models.identity(settings)  # loads
        before, began = cpu_seconds(), time.monotonic()
        results = run_rows(settings, rows, out=Path(folder) / "out", in_flight=in_flight, models=models)
        return line(f"-j {in_flight}", results, time.monotonic() - began, cpu_seconds() - before)


def line(name: str, results: Sequence[Any], wall: float, cpu: float) -> dict[str, Any]:
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
        "wall_seconds": wall,
    }


def measure_peer(options: argparse.Namespace) -> dict[str, Any]:
    """The same goals through smolagents, one after another."""
    from dataclasses import dataclass

    from smolagents import ToolCallingAgent, TransformersModel, tool

    from agent.engine.models import load_model

    @dataclass
    class Done:
        steps: int
        tokens: int
        succeeded: bool

    loaded = load_model(options.model, dtype="fp32", cache=load_settings().paths.cache)
    model = TransformersModel(str(loaded.folder), device_map="cpu", torch_dtype="float32", do_sample=False,
                              max_new_tokens=200)  # fmt: skip
    here = Path()

    @tool
    def read_file(path: str) -> str:
        """Read a text file.

        Args:
            path: The file, relative to the folder.
        """
        return (here / path).read_text()

    @tool
    def write_file(path: str, content: str) -> str:
        """Write a text file.

        Args:
            path: The file, relative to the folder.
            content: The text.
        """
        (here / path).write_text(content)
        return "written"

    @tool
    def list_files() -> str:
        """List the files of the folder."""
        return "\n".join(sorted(p.name for p in here.iterdir()))

    import shutil

    results: list[Done] = []
    rows = goals(options.goals, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        before, began = cpu_seconds(), time.monotonic()
        for row in rows:
            here = Path(shutil.copytree(WORKSPACE, Path(folder) / row.id))
            agent = ToolCallingAgent(
                [read_file, write_file, list_files], model, max_steps=options.steps, verbosity_level=0
            )
            said = agent.run(row.goal.text, return_full_result=True)
            tokens = said.token_usage.output_tokens if said.token_usage else 0
            results.append(Done(len(agent.memory.steps) - 1, tokens, said.state == "success"))
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
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--suite", help="a file of goals instead of the built-in ones")
    parser.add_argument("--goals", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="steps of one goal at most")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--peer", action="store_true", help="also run smolagents")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_peer(options) if options.one == "peer" else measure(options, int(options.one))))
        return
    passed = ["--model", options.model, "--dtype", options.dtype, "--goals", str(options.goals)]
    passed += ["--steps", str(options.steps), *(["--suite", options.suite] if options.suite else [])]
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {options.goals} goals", flush=True)
    print("|  | goals/min | tokens/s | steps | CPU-s/goal | peak MB | finished | wall s |\n" + "| --- " * 8 + "|")
    for one in [*map(str, options.in_flight), *(["peer"] if options.peer else [])]:
        row = in_process([*passed, "--one", one])
        print(
            f"| {row['name']} | {row['goals_per_minute']:.1f} | {row['tokens_per_second']:.0f} | {row['steps']:.1f} |"
            f" {row['cpu_seconds_per_goal']:.1f} | {row['peak_mb']:.0f} | {row['succeeded']}/{row['goals']} |"
            f" {row['wall_seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
