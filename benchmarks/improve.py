"""The closed loop from end to end: a small model learns a family of goals that it rarely solves.

    python -m benchmarks.improve base -o DIR          # trains the base, once
    python -m benchmarks.improve goals -o DIR         # writes goals.jsonl, older.jsonl and suite.jsonl
    python -m agent -m DIR/base improve DIR/goals.jsonl --held-out DIR/suite.jsonl --older DIR/older.jsonl -o RUN

The base is a Llama of less than a million parameters with a tokenizer of its own, trained from nothing on sessions of
three families (say a word, write it to a file, read it from a file) and of a fourth, to copy a file, which it mostly
saw done wrong: nine times in ten its teacher wrote to the wrong file, wrote the wrong word, or only told what the
file says. That family is the one to be learned. `docs/learning.md` says what came of it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.batch import run_rows
from agent.engine.chat import Chat
from agent.engine.models import load_model
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.learning.dataset import read_examples, write_dataset
from agent.learning.examples import Example
from agent.learning.sequences import SessionEncoder
from agent.policies.scripted import ScriptedPolicy
from agent.settings import Settings, load_settings
from agent.types import Budget, Goal
from prompts import system_text

WORDS = (
    "amber", "birch", "canoe", "daisy", "ember", "fox", "ginger", "heron", "indigo", "jasmine", "kettle", "lotus",
    "maple", "onyx", "poppy", "raven",
)  # fmt: skip
OLD, NEW = ("say", "write", "read"), "copy"
RIGHT = 0.1
"""Share of the lessons of the new family that are right."""
BUDGET = Budget(steps=5, tokens=400, action_tokens=120)
TOOLS = ["read_file", "write_file", "finish"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SIZES = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "initializer_range": 0.08,  # with the usual 0.02 so narrow a network does not learn to copy
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("base", "goals"))
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sessions", type=int, default=450, help="of the three old families")
    parser.add_argument("--sloppy", type=int, default=450, help="of the new family, mostly done wrong")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--train-goals", type=int, default=40)
    parser.add_argument("--held-out", type=int, default=100, help="of the new family; fewer of the old ones")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.what == "base":
        build_base(chosen.out / "base", chosen.sessions, chosen.sloppy, chosen.steps)
    else:
        write_goals(chosen.out, chosen.train_goals, chosen.held_out)


# --- goals ------------------------------------------------------------------------------------------------------


def task(family: str, draw: random.Random, id: str) -> tuple[GoalRow, list[str]]:
    """A goal of a family, and the actions that reach it."""
    word, other = draw.sample(WORDS, 2)
    one, two = (f"{name}.{draw.choice(('txt', 'md', 'log'))}" for name in draw.sample(WORDS, 2))
    files: dict[str, str] = {}
    if family == "say":
        text = draw.choice(('Say "{w}".', 'Answer with "{w}".', 'The answer is "{w}".')).format(w=word)
        check: dict[str, Any] = {"answer": {"equals": word}}
        actions = [act("I say it.", "finish", answer=word)]
    elif family == "write":
        text = draw.choice(('Write "{w}" to "{f}".', 'Put "{w}" in "{f}".')).format(w=word, f=one)
        check = {"file": one, "equals": word}
        actions = [act("I write it.", "write_file", path=one, content=word), act("Done.", "finish", answer="done")]
    elif family == "read":
        text = draw.choice(('What is in "{f}"?', 'Read "{f}".')).format(f=one)
        files = {one: f'"{word}"\n', two: f'"{other}"\n'}
        check = {"answer": {"equals": word}}
        actions = [act("I read it.", "read_file", path=one), act("I say it.", "finish", answer=word)]
    else:
        text = draw.choice(('Copy "{f}" to "{g}".', 'Make "{g}" the same as "{f}".')).format(f=one, g=two)
        files = {one: f'"{word}"\n'}
        check = {"file": two, "matches": f'^"?{word}"?\\s*$'}
        actions = [
            act("I read it.", "read_file", path=one),
            act("I write it.", "write_file", path=two, content=word),
            act("Done.", "finish", answer="done"),
        ]
    return GoalRow(id, Goal(text, check, budget=BUDGET, tags=(f"family:{family}",)), files), actions


def spoiled(actions: list[str], row: GoalRow, draw: random.Random) -> list[str]:
    """The actions of a copy, gone wrong in one of three ways."""
    path = next(iter(row.files))
    read, write, done = actions
    args = json.loads(write)["args"]
    return draw.choice(
        (
            [read, act("I write it.", "write_file", path=path, content=args["content"]), done],
            [read, act("I write it.", "write_file", path=args["path"], content=draw.choice(WORDS)), done],
            [read, act("I say it.", "finish", answer=args["content"])],
        )
    )


def tasks(families: Sequence[str], count: int, seed: str) -> Iterator[tuple[GoalRow, list[str]]]:
    """`count` different goals, the families in turn; other seeds give others."""
    draw = random.Random(seed)
    for number in range(count):
        yield task(families[number % len(families)], draw, f"{seed}-{number}")


def act(thought: str, tool: str, **args: Any) -> str:
    return json.dumps({"thought": thought, "tool": tool, "args": args})


def write_goals(out: Path, train: int, held_out: int) -> None:
    """No goal of one file is in another: there are 48 things to say, 96 to read, and many to write and to copy."""
    taken: set[str] = set()
    suite = {NEW: held_out, "write": held_out, "read": min(held_out // 2, 50), "say": min(held_out // 4, 25)}
    older = {"write": train, "read": min(train // 3, 40), "say": min(train // 5, 16)}
    files = {
        "suite.jsonl": [row for family, count in suite.items() for row in fresh(family, count, "heldout", taken)],
        "goals.jsonl": [*fresh(NEW, train, "train", taken)],
        "older.jsonl": [row for family, count in older.items() for row in fresh(family, count, "older", taken)],
    }
    for name, rows in files.items():
        (out / name).write_text("".join(json.dumps(as_data(row)) + "\n" for row in rows), encoding="utf-8")
        print(f"{out / name}: {len(rows)} goals")


def fresh(family: str, count: int, seed: str, taken: set[str]) -> Iterator[GoalRow]:
    """`count` goals of a family whose text is not in `taken`, where it then is."""
    draw = random.Random(f"{seed} {family}")
    for number in range(count):
        while (row := task(family, draw, f"{seed}-{family}-{number}")[0]).goal.text in taken:
            pass
        taken.add(row.goal.text)
        yield row


def as_data(row: GoalRow) -> dict[str, Any]:
    budget = {"steps": BUDGET.steps, "tokens": BUDGET.tokens, "action_tokens": BUDGET.action_tokens}
    goal = {"id": row.id, "goal": row.goal.text, "check": row.goal.check, "tags": list(row.goal.tags)}
    return {**goal, "files": dict(row.files), "budget": budget}


# --- the base ---------------------------------------------------------------------------------------------------


def build_base(folder: Path, sessions: int, sloppy: int, steps: int) -> None:
    """A model that solves the old families, and has seen `sloppy` sessions of the new one, most of them wrong."""
    began = time.monotonic()
    wrong = random.Random("wrong")
    lessons = [*tasks(OLD, sessions, "base")]
    for row, actions in tasks([NEW], sloppy, "sloppy"):
        right = wrong.random() < RIGHT
        lessons.append((row, actions if right else spoiled(actions, row, wrong)))
    size = build_tokenizer(
        folder, [row.goal.text for row, _ in lessons], [a for _, actions in lessons for a in actions]
    )
    network = new_network(folder, size)
    if not (folder / "lessons" / "manifest.json").is_file():
        with tempfile.TemporaryDirectory(prefix="whetstone-base-") as place:
            write_dataset(folder / "lessons", taught(folder, lessons, Path(place)), {"counts": {}})
    examples = read_examples(folder / "lessons")
    print(f"{len(examples)} sessions, {time.monotonic() - began:.0f} s", flush=True)
    train(network, examples, steps)
    network.save_pretrained(folder)
    count = sum(p.numel() for p in network.parameters())
    print(f"{folder}: {count / 1e6:.2f} million parameters, {time.monotonic() - began:.0f} s")


def build_tokenizer(folder: Path, goals: Sequence[str], actions: Sequence[str]) -> int:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1600, initial_alphabet=alphabet, show_progress=False)
    compact = [json.dumps(json.loads(action), separators=(",", ":")) for action in actions]
    text = [*goals, *compact, *(f'"{word}"' for word in WORDS * 20), *[system_text(tools="")] * 20]
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|end|>", "pad_token": "<|pad|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer.get_vocab_size()


def new_network(folder: Path, vocabulary: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=vocabulary, **SIZES))
    network.save_pretrained(folder)
    return network


def taught(base: Path, lessons: Sequence[tuple[GoalRow, list[str]]], place: Path) -> list[Example]:
    """The lessons as sessions of the real runtime with its real tools, and those as token sequences."""
    script = {row.id: actions for row, actions in lessons}
    rows = [row for row, _ in lessons]
    settings = settings_for(place, base)
    results = run_rows(settings, rows, out=place / "out", in_flight=2, policy=lambda _, row: Scripted(script[row.id]))
    failed = [result for result in results if not result.succeeded and result.family in OLD]
    if failed:
        raise SystemExit(f"a teacher failed: {failed[0]}")
    loaded = load_model(str(base), dtype="fp32", cache=place / "cache")
    encoder = SessionEncoder(loaded.tokenizer, loaded.lineage, logits=loaded.model.vocabulary, loss_on="actions")
    assert Chat(loaded.tokenizer).end_id == loaded.tokenizer.eos_id
    return [encoder.examples(read_session(place / "out" / result.journal))[0] for result in results]


Scripted: Callable[[list[str]], ScriptedPolicy] = ScriptedPolicy


def settings_for(place: Path, model: Path) -> Settings:
    (place / "workspace").mkdir(parents=True, exist_ok=True)
    flags = {
        "model.name": str(model), "paths.workspace": str(place / "workspace"), "paths.data": str(place / "data"),
        "paths.cache": str(place / "cache"), "sandbox.rung": "none", "memory.enabled": False,
        "tools.enabled": TOOLS, "approval.mode": "auto",
    }  # fmt: skip
    return load_settings(flags, env={}, folder=place)


def train(network: Any, examples: Sequence[Example], steps: int, batch: int = 24, rate: float = 1e-3) -> None:
    """Plain training of all weights. The system turn, the same in all sessions, is computed once for a batch.

    For the first half of the steps it is left out (the positions stay): to copy is learned soon among few tokens, and
    hardly among many.
    """
    import math

    import torch
    from torch.nn.functional import cross_entropy
    from transformers import DynamicCache

    network.set_attn_implementation("eager")  # on a CPU the backward pass of the fused one takes most of the time
    shared = examples[0].shared
    prefix = torch.tensor([examples[0].ids[:shared]])
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    draw = random.Random(0)
    batches: list[list[Example]] = []
    began = time.monotonic()
    for step in range(steps):
        if not batches:  # sessions of about one length together, in a new order
            mixed = sorted(draw.sample(list(examples), len(examples)), key=lambda e: len(e.ids) + draw.random() * 8)
            batches = [mixed[at : at + batch] for at in range(0, len(mixed) - batch + 1, batch)]
            draw.shuffle(batches)
        chosen = batches.pop()
        width = max(len(e.ids) for e in chosen) - shared
        ids = torch.zeros(batch, width, dtype=torch.long)
        labels = torch.full((batch, width), -100)
        for row, example in enumerate(chosen):
            own = torch.tensor(example.ids[shared:])
            learned = torch.tensor(example.loss[shared:])
            ids[row, : len(own)] = own
            labels[row, : len(own)] = torch.where(learned, own, -100)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.autocast("cpu", torch.bfloat16):
            if step < steps // 2:
                hidden = network.model(ids, position_ids=torch.arange(shared, shared + width)[None]).last_hidden_state
            else:
                cache = DynamicCache()
                network.model(prefix, past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(batch)
                hidden = network.model(ids, past_key_values=cache, use_cache=True).last_hidden_state
            wanted = labels[:, 1:] != -100
            logits = network.lm_head(hidden[:, :-1][wanted])
        loss = cross_entropy(logits.float(), labels[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            print(
                f"step {step + 1} of {steps}, loss {loss.item():.3f}, {time.monotonic() - began:.0f} s,"
                f" {time.process_time():.0f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()
