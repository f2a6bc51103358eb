"""The engine against others on the same weights, and against itself with each of its ideas switched off.

    python -m benchmarks.engine [--parts session,precision,batch,off,history] [--steps 10] [--threads 1] [--adapter F]

session    a session of ten steps: ours; transformers' `generate`, reading the whole prompt at each step; smolagents'
           `TransformersModel` where it can be imported (`pip install --target` and PYTHONPATH will do); llama.cpp (the
           GGUF of the same model, its own prefix cache and its own JSON-schema grammar) where `--llama-cpp` names a
           folder in which `npm install node-llama-cpp` was run, which brings it built for each kind of processor.
           The others are given our prompts and write as many tokens as we did; llama.cpp ends where its JSON does.
precision  seconds per token by number format, beside what reading the weights once would take.
batch      sixteen short sessions, 1 to 16 of them at once: all of their time, and that of writing alone.
off        the same session with the cache, forced tokens, guesses ahead or int8 switched off.
history    a step of 64 new tokens and 24 written after 256 to 7,000 tokens of history, and the line through it.

CPU seconds of the whole process, and wall seconds; the load of the machine is printed before and after.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from agent.engine.chat import Chat
from agent.engine.decode import Engine, Request
from agent.engine.models import LoadedModel, load_model
from agent.engine.scheduler import Scheduler
from agent.settings import load_settings
from agent.types import Completion, Message, Prompt
from benchmarks.engine_peers import Spent, peers
from prompts import system_text
from tools.plugins import load_tools
from tools.schema import action_schema, describe_tools

GOAL = "Read all files in the workspace and write the name of each with its number of lines to summary.csv"
OBSERVATIONS = (
    "notes.txt (412 bytes)\nsettings.ini (96 bytes)\nsales.csv (1204 bytes)\ncustomers.csv (880 bytes)",
    "The corner cafe opens at seven. The supplier of the beans is Lindgren & Co; their lorry comes on Tuesdays."
    " The printer stands in the back room and needs a new ribbon every month or so.\nThe keys hang by the door.",
    "[printer]\nport = 9100\nhost = 10.9.0.17\n\n[till]\nport = 7443\nname = front",
    "day,product,quantity,price\nMon,espresso,41,2.20\nMon,tea,12,2.80\nTue,espresso,38,2.20\nTue,cake,9,3.50",
    "stdout:\nnotes.txt 11\nsettings.ini 7\nsales.csv 52\ncustomers.csv 31\nexit status 0",
)

BATCH_SESSIONS, BATCH_STEPS = 16, 4
GOALS = (
    "Read notes.txt and tell me who supplies the beans",
    "What is the port of the till in settings.ini?",
    "What is the sum of the quantity column in sales.csv?",
    "Write the text 'closed on Mondays' to the file sign.txt",
    "Which file mentions the supplier?",
    "How many rows has customers.csv?",
    "Change the port of the printer to 9200 in settings.ini",
    "Write the name of each file to summary.txt",
)


@dataclass(frozen=True)
class Cost:
    cpu: float
    wall: float


def cost_of(work: Callable[[], Any]) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


@dataclass(frozen=True)
class Step:
    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    completion: Completion


class Subject:
    """A loaded model with the real tools' schema and system turn."""

    def __init__(self, loaded: LoadedModel, tokens: int) -> None:
        tools = load_tools(plugins=(), enabled=("*",), sandbox=True, memory=True, answer_schema=None)
        self.loaded, self.tokens = loaded, tokens
        self.chat = Chat(loaded.tokenizer)
        self.schema = action_schema(tools)
        self.system = system_text(tools=describe_tools(tools))

    def engine(self, **options: Any) -> Engine:
        return Engine(self.loaded.model, self.loaded.tokenizer, end_id=self.chat.end_id, **options)

    def request(self, session: str, messages: Sequence[Message]) -> Request:
        return Request(session, self.chat.encode(Prompt(tuple(messages))), self.schema, self.tokens)

    def session(self, steps: int, engine: Callable[[], Engine]) -> list[Step]:
        """The steps of a session; `engine` gives the engine of each step. Greedy."""
        messages = [Message("system", self.system, "system"), Message("user", f"Goal: {GOAL}", "goal")]
        found: list[Step] = []
        for number in range(steps):
            request = self.request("s", messages)
            completion = engine().complete(request)
            found.append(Step(tuple(messages), tuple(request.ids), completion))
            messages += [
                Message("assistant", completion.text, "history", number, completion.token_ids),
                Message("user", OBSERVATIONS[number % len(OBSERVATIONS)], "history", number),
            ]
        return found


def row(name: str, cost: Cost, reference: Cost | None, more: str = "") -> None:
    ratio = "" if reference is None else f"{cost.cpu / reference.cpu:8.2f} {cost.wall / reference.wall:8.2f}"
    print(f"{name:<44} {cost.cpu:8.2f} {cost.wall:8.2f} {ratio:>17}  {more}", flush=True)


def head(title: str) -> None:
    print(f"\n{title:<44} {'CPU s':>8} {'wall s':>8} {'x CPU':>8} {'x wall':>8}")


def part_session(subject: Subject, steps: int, rounds: int, llama_cpp: Path | None) -> None:
    head(f"a session of {steps} steps")
    best: list[Cost] = []
    story: list[Step] = []
    for _ in range(rounds):
        engine = subject.engine()
        best.append(cost_of(lambda engine=engine: story.extend(subject.session(steps, lambda: engine))))
    story = story[:steps]
    ours = Cost(statistics.median(c.cpu for c in best), statistics.median(c.wall for c in best))
    written = sum(s.completion.usage.generated for s in story)
    read = sum(s.completion.usage.prefilled for s in story)
    row(f"ours, {subject.loaded.dtype}", ours, ours, f"{written} tokens written, {read} read")
    for name, run in peers(subject.loaded, subject.schema, llama_cpp):
        elsewhere: list[Spent] = []

        def replay(run: Any = run, elsewhere: list[Spent] = elsewhere) -> None:
            for step in story:
                spent = run(step.messages, step.ids, step.completion.usage.generated)
                elsewhere.extend([] if spent is None else [spent])

        here = cost_of(replay)
        cost = Cost(here.cpu + sum(spent.cpu for spent in elsewhere), here.wall)
        row(name, cost, ours, f"{sum(spent.written for spent in elsewhere) or written} tokens written")


def part_precision(options: argparse.Namespace) -> None:
    import torch

    weights = torch.ones(64 * 1024**2)  # 256 MiB, more than any cache
    weights.sum()
    bandwidth = statistics.median(weights.nbytes / cost_of(weights.sum).wall for _ in range(5))
    print(f"\nprecision: {bandwidth / 1e9:.1f} GB/s read from memory on {torch.get_num_threads()} thread(s)")
    for dtype in ("fp32", "bf16", "int8"):
        loaded = load_model(options.model, dtype=dtype, threads=options.threads, cache=options.cache)
        subject = Subject(loaded, options.tokens)
        engine = subject.engine(drafts=False)
        steps = [step.completion for step in subject.session(3, lambda engine=engine: engine)]
        decode = sum(step.milliseconds["decode"] for step in steps)
        written, passes = (sum(getattr(s.usage, name) for s in steps) for name in ("generated", "sampled"))
        read = sum(s.milliseconds["prefill"] for s in steps) / sum(s.usage.prefilled for s in steps)
        limit = _parameters(loaded.folder) * {"fp32": 4, "bf16": 2, "int8": 1}[dtype] / bandwidth * 1000
        print(
            f"{dtype}: {decode / written:6.1f} ms a token written, {decode / passes:6.1f} ms a pass"
            f" ({limit:.1f} ms to read the weights once), {read:5.2f} ms a token read",
            flush=True,
        )


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def part_batch(subject: Subject, *, drafts: bool) -> None:
    print(f"\n{BATCH_SESSIONS} sessions of {BATCH_STEPS} steps, so many at once, {'with' if drafts else 'no'} guesses")
    print(f"{'':<8}{'tokens/s':>10}{'x':>7}{'/CPU s':>10}{'x':>7}{'writing only':>15}{'x':>7}{'read/written':>15}")
    reference: list[float] = []
    for count in (1, 2, 4, 8, 16):
        cost, found = _sessions_at_once(subject, subject.engine(drafts=drafts), count)
        written, read = (sum(getattr(c.usage, name) for c in found) for name in ("generated", "prefilled"))
        writing = sum(c.milliseconds["decode"] for c in found) / 1000
        rates = [written / seconds for seconds in (cost.wall, cost.cpu, writing)]
        reference = reference or rates
        pairs = zip(rates, reference, (10, 10, 15), strict=True)
        cells = "".join(f"{rate:{width}.0f}{rate / first:7.2f}" for rate, first, width in pairs)
        print(f"{count:<8}{cells}{read / written:15.1f}", flush=True)


def _sessions_at_once(subject: Subject, engine: Engine, count: int) -> tuple[Cost, list[Completion]]:
    """What all sessions begin with is read before."""
    opening = [Message("system", subject.system, "system"), Message("user", "Goal:", "goal")]
    engine.complete(subject.request("opening", opening))
    with Scheduler(engine) as scheduler, ThreadPoolExecutor(count) as pool:
        found: list[Completion] = []
        sessions = partial(_steps_of, subject, scheduler)
        cost = cost_of(lambda: found.extend(chain.from_iterable(pool.map(sessions, range(BATCH_SESSIONS)))))
    return cost, found


def _steps_of(subject: Subject, scheduler: Scheduler, number: int) -> list[Completion]:
    """A few steps of a new session."""
    name = f"{number}"
    told = [
        Message("system", subject.system, "system"),
        Message("user", f"Goal: {GOALS[number % len(GOALS)]} ({number})", "goal"),
    ]
    found: list[Completion] = []
    for step in range(BATCH_STEPS):
        completion = scheduler.complete(subject.request(name, told))
        found.append(completion)
        told += [
            Message("assistant", completion.text, "history", step, completion.token_ids),
            Message("user", OBSERVATIONS[(step + number) % len(OBSERVATIONS)], "history", step),
        ]
    scheduler.forget(name)
    return found


def part_off(subject: Subject, steps: int, options: argparse.Namespace) -> None:
    head("ours, with one thing switched off")
    kept = subject.engine()
    whole = cost_of(lambda: subject.session(steps, lambda: kept))
    row("everything on", whole, whole)
    row("cache", cost_of(lambda: subject.session(steps, subject.engine)), whole)
    for name in ("fast_forward", "drafts"):
        engine = subject.engine(**{name: False})
        story: list[Step] = []
        row(name, cost_of(lambda e=engine, s=story: s.extend(subject.session(steps, lambda: e))), whole)
    plain = Subject(
        load_model(options.model, dtype="fp32", threads=options.threads, cache=options.cache), subject.tokens
    )
    engine = plain.engine()
    row("int8 (fp32 instead)", cost_of(lambda: plain.session(steps, lambda: engine)), whole)
    engine = plain.engine(drafts=False)
    row("int8 and drafts", cost_of(lambda: plain.session(steps, lambda: engine)), whole)


def part_history(subject: Subject) -> None:
    import numpy

    head("a step of 64 new tokens after a history")
    tokenizer = subject.loaded.tokenizer
    text = tokenizer.encode(" ".join(OBSERVATIONS) * 60)
    lengths, seconds = [], []
    for length in (256, 512, 1024, 2048, 4096, 7000):
        engine = subject.engine()
        engine.complete(Request("s", text[:length], subject.schema, 24))
        request = Request("s", text[: length + 64], subject.schema, 24)
        cost = cost_of(lambda e=engine, r=request: e.complete(r))
        row(f"{length} tokens", cost, None)
        lengths.append(length)
        seconds.append(cost.cpu)
    slope, constant = numpy.polyfit(lengths, seconds, 1)
    print(f"CPU seconds = {constant:.2f} + {slope * 1000:.3f} for each 1,000 tokens of history (attention over them)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="session,precision,batch,off,history")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=120, help="of one action at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.cache = load_settings({}).paths.cache
    loaded = load_model(
        options.model, adapter=options.adapter, dtype=options.dtype, threads=options.threads, cache=options.cache
    )
    subject = Subject(loaded, options.tokens)
    print(f"load {os.getloadavg()[0]:.1f}, {options.threads} thread(s), {loaded.spec} {loaded.dtype}")
    parts = options.parts.split(",")
    if "session" in parts:
        part_session(subject, options.steps, options.rounds, options.llama_cpp)
    if "precision" in parts:
        part_precision(options)
    if "batch" in parts:
        part_batch(subject, drafts=False)
        part_batch(subject, drafts=True)
    if "off" in parts:
        part_off(subject, options.steps, options)
    if "history" in parts:
        part_history(subject)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
