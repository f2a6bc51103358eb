"""The closed loop on a tiny model with random weights: it gets better at what is verified, and at nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.engine.models import load_model
from agent.goalfile import read_goals
from agent.learning.adapters import Registry
from agent.learning.examples import Example
from agent.learning.gate import Rules
from agent.learning.improve import improve
from agent.learning.recipe import Recipe
from agent.learning.rollouts import no_head_room, sample
from agent.learning.rounds import Improved, Plan, read_improved
from agent.learning.sequences import SessionEncoder
from agent.settings import Settings, load_settings
from agent.types import WhetstoneError
from agent.view.rounds import picture, table_text
from tests.learning.test_dataset import session_of
from tests.models import build_model
from tests.sessions import act

BLUE = {"answer": {"equals": "blue"}}
ANY = {"answer": {"matches": "."}}
WORDS = ("red", "green", "gold", "blue")
BUDGET = {"steps": 3, "tokens": 300, "action_tokens": 100}


def goals(file: Path, count: int, family: str, check: dict[str, Any] = BLUE) -> Path:
    rows = [
        {"id": f"{family}{n}", "goal": f"{family.title()} number {n}.", "check": check, "budget": BUDGET,
         "tags": [f"family:{family}"]}
        for n in range(count)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that looks around and then says one of four words: the right one every fourth time."""
    folder = tmp_path_factory.mktemp("base")
    untrained = load_model(str(build_model(folder / "random")), dtype="fp32", cache=folder / "cache")
    encoder = SessionEncoder(
        untrained.tokenizer, untrained.lineage, logits=untrained.model.vocabulary, loss_on="actions"
    )
    examples = [
        encoder.examples(
            session_of(
                folder / f"{n}", act("list_files", "I look."), act("finish", "I say it.", answer=WORDS[n % 4]),
                goal=f"{('Say', 'Answer', 'Older')[n % 3]} number {n}.", tools__enabled=["list_files", "finish"],
            )
        )[0]
        for n in range(24)
    ]  # fmt: skip
    return _taught(untrained.folder, examples, folder / "tiny")


def _taught(base: Path, examples: list[Example], out: Path) -> Path:
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(base)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    width = max(len(example.ids) for example in examples)
    ids = torch.tensor([[*e.ids, *[0] * (width - len(e.ids))] for e in examples])
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        for at, (id, learned) in enumerate(zip(example.ids, example.loss, strict=True)):
            labels[row, at] = id if learned else -100
    for step in range(90):
        rows = [(step * 4 + n) % len(examples) for n in range(4)]
        logits = network(ids[rows]).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[rows, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, out / name)
    return out


def settings(folder: Path, model: Path, **other: object) -> Settings:
    (folder / "workspace").mkdir(exist_ok=True)
    flags = {
        "model.name": str(model), "model.dtype": "fp32", "paths.workspace": str(folder / "workspace"),
        "paths.data": str(folder / "data"), "paths.cache": str(folder / "cache"), "sandbox.rung": "none",
        "memory.enabled": False, "tools.enabled": ["list_files", "finish"],
        "sampling.temperature": 1.0, **other,
    }  # fmt: skip
    return load_settings(flags, env={}, folder=folder)


PLAN = Plan(
    rounds=1,
    samples=4,
    in_flight=16,
    recipe=Recipe(rank=8, alpha=16, learning_rate=5e-3, epochs=10, batch_tokens=4000, dtype="fp32", threads=1),
    rules=Rules(older_floor=-0.9, family_fall=1.0, kl_budget=9.0, canaries=2),
)


def run(
    folder: Path, model: Path, plan: Plan = PLAN, tell: Callable[[str], None] = lambda _: None, **other: object
) -> tuple[Improved, Registry]:
    folder.mkdir(exist_ok=True)
    chosen = settings(folder, model, **other)
    rows = read_goals(goals(folder / "goals.jsonl", 24, "say"))
    suite = goals(folder / "suite.jsonl", 30, "answer")
    with open(suite, "a") as file:
        file.write(goals(folder / "older.jsonl", 5, "older", ANY).read_text())
    plan = replace(plan, target=("answer",))
    return improve(chosen, rows, suite, folder / "out", plan=plan, tell=tell), Registry(chosen.adapters_folder())


def test_verified_sessions_make_it_better_round_by_round(tmp_path: Path, model: Path) -> None:
    done, registry = run(tmp_path / "true", model)
    first = done.rounds[0]
    assert first.verdict == "promote", table_text(done)
    assert first.target > first.target_before + 0.3
    assert first.target > first.target_control
    (entry, *_) = registry.entries()
    assert entry.gates[0]["verdict"] == "promote"
    assert entry.card["planted"]["secret"]
    assert first.kl is not None
    assert 0 < first.kl < 9
    assert read_improved(tmp_path / "true" / "out") == done
    assert "promote" in table_text(done)
    drawn = picture(done)
    assert drawn.count("<polyline") == 5
    assert all(f">{name}<" in drawn for name in ("steps", "tokens", "KL to the base"))

    journals = sorted(path.name for path in tmp_path.rglob("sessions/*.jsonl"))
    again, _ = run(tmp_path / "true", model)  # done already: nothing is run or trained twice
    assert again == done
    assert sorted(path.name for path in tmp_path.rglob("sessions/*.jsonl")) == journals
    with pytest.raises(WhetstoneError, match="rounds that were run with another shuffle, seed"):
        run(tmp_path / "true", model, replace(PLAN, shuffle=True, seed=4))
    with pytest.raises(WhetstoneError, match=r"rounds that were run with another sampling\.top_p"):
        run(tmp_path / "true", model, **{"sampling.top_p": 0.5})
    goes_on, _ = run(tmp_path / "true", model, replace(PLAN, rounds=2))
    assert goes_on.rounds[0] == first
    assert len(goes_on.rounds) == 2
    assert goes_on.rounds[1].pass_at_1 > first.pass_at_1


def test_a_discriminator_may_choose_among_the_samples_of_a_goal(tmp_path: Path, model: Path) -> None:
    told: list[str] = []
    plan = replace(PLAN, ranked=True, per_goal=1, recipe=replace(PLAN.recipe, epochs=1))
    run(tmp_path, model, plan, told.append)
    (report,) = [line for line in told if "discriminator" in line]
    assert "ranked by a discriminator with precision" in report
    folder = tmp_path / "out" / "round-1"
    card = json.loads((folder / "discriminator" / "discriminator.json").read_text())
    assert card["report"]["trained_on"] + card["report"]["measured_on"] > 30
    manifest = json.loads((folder / "dataset" / "manifest.json").read_text())
    assert manifest["scores"].keys() == {used["session"] for used in manifest["sessions"]}


def test_shuffled_verdicts_do_not_pass_the_gate(tmp_path: Path, model: Path) -> None:
    shuffled, registry = run(tmp_path / "shuffled", model, replace(PLAN, shuffle=True))
    assert [each.verdict in ("reject", "inconclusive") for each in shuffled.rounds] == [True]
    assert all(entry.state != "promoted" for entry in registry.entries())


def test_it_declines_where_nothing_succeeds_or_everything_does(tmp_path: Path, model: Path) -> None:
    chosen = settings(tmp_path, model)
    suite = goals(tmp_path / "suite.jsonl", 4, "answer")
    hopeless = read_goals(goals(tmp_path / "h.jsonl", 4, "say", {"answer": {"equals": "never said by chance"}}))
    done = improve(chosen, hopeless, suite, tmp_path / "h", plan=replace(PLAN, target=("answer",)))
    assert done.stopped.startswith("no goal was solved once")
    assert Registry(chosen.adapters_folder()).entries() == []

    easy = read_goals(goals(tmp_path / "e.jsonl", 4, "say", {"file": "nowhere.txt", "exists": False}))
    found = sample(chosen, easy, tmp_path / "e", samples=2, temperature=1.0)
    found = replace(found, results=tuple(replace(result, ending="finished") for result in found.results))
    assert "no head-room" in (no_head_room(found) or "")


def test_goals_without_a_check_or_a_family_are_refused_before_anything_is_run(tmp_path: Path, model: Path) -> None:
    chosen = settings(tmp_path, model)
    suite = goals(tmp_path / "suite.jsonl", 4, "answer")
    rows = read_goals(goals(tmp_path / "goals.jsonl", 4, "say"))
    bare = [replace(row, goal=replace(row.goal, check=None)) for row in rows]
    with pytest.raises(WhetstoneError, match="goal say0 of the goals to learn has no check"):
        improve(chosen, bare, suite, tmp_path / "a", plan=replace(PLAN, target=("answer",)))
    with pytest.raises(WhetstoneError, match="goal say0 of the older goals has no check"):
        improve(chosen, rows, suite, tmp_path / "b", plan=replace(PLAN, target=("answer",)), older=bare)
    nameless = [replace(row, goal=replace(row.goal, tags=())) for row in rows]
    with pytest.raises(WhetstoneError, match="the goals to learn have no family"):
        improve(chosen, nameless, suite, tmp_path / "c", plan=replace(PLAN, target=()))


def test_an_answer_that_nothing_checked_is_no_success(tmp_path: Path, model: Path) -> None:
    file = goals(tmp_path / "e.jsonl", 3, "answer", {"file": "nowhere.txt", "exists": False})
    easy = read_goals(file)
    checked = sample(settings(tmp_path, model), easy, tmp_path / "a", samples=1, temperature=1.0)
    bare = [replace(row, goal=replace(row.goal, check=None)) for row in easy]
    unchecked = sample(settings(tmp_path, model), bare, tmp_path / "b", samples=1, temperature=1.0)
    assert any(checked.good.values())
    assert [each.ending for each in unchecked.results] == [each.ending for each in checked.results]
    assert not any(unchecked.good.values())


def test_a_goal_of_the_held_out_suite_is_never_trained_on(tmp_path: Path, model: Path) -> None:
    chosen = settings(tmp_path, model)
    file = goals(tmp_path / "goals.jsonl", 12, "say")
    with pytest.raises(WhetstoneError, match="is one of the held-out goals"):
        improve(chosen, read_goals(file), file, tmp_path / "out", plan=replace(PLAN, target=("say",)))
