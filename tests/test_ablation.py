"""What memory is worth is measured on pairs of real sessions that differ in nothing else."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.ablation import ablate, compare
from agent.batch import Result
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.policies.scripted import ScriptedPolicy
from agent.settings import Settings
from agent.types import JSON, Action, Completion, Goal, MemoryRecord, Prompt, WhetstoneError
from memory import open_memory
from memory.embed import default_cache
from memory.overview import export
from tests.command import Place, act
from tests.sessions import settings_for


class Reader(ScriptedPolicy):
    """Answers with the port that stands in its prompt; where none does, it looks around and gives up."""

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        told = re.search(r"port is (\d+)", prompt.messages[1].content)
        self._texts = (act("finish", answer=told[1]),) if told else (act("list_files"), act("finish", answer="unknown"))
        return super().act(
            prompt,
            schema,
            step=step,
            max_tokens=max_tokens,
            deadline=deadline,
            on_text=on_text,
            cancelled=cancelled,
        )


def settings_in(folder: Path, **flags: Any) -> Settings:
    return settings_for(folder, [], paths__cache=str(default_cache()), **flags)


def port_goals(count: int) -> list[GoalRow]:
    return [
        GoalRow(
            id=f"port-{n}",
            goal=Goal(f"Which port does service {n} use?", check={"answer": {"equals": str(7000 + n)}}),
            remembered=(f"service {n}: the port is {7000 + n}",),
        )
        for n in range(count)
    ]


def test_a_policy_that_uses_memory_wins_with_it_and_the_difference_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    rows = [*port_goals(6), GoalRow("easy", Goal("Say unknown.", check={"answer": {"equals": "unknown"}}))]
    found = ablate(settings, rows, tmp_path / "out", policy=lambda session, row: Reader([]))
    assert (found.goals, found.pairs, found.left_out) == (7, 7, ())
    assert (found.success.with_memory, found.success.without) == (1.0, pytest.approx(1 / 7))
    assert (found.won, found.lost, found.p) == (6, 0, pytest.approx(2 / 64))
    assert found.success.difference.low > 0.5
    assert found.steps.difference.mean == pytest.approx(-6 / 7)
    assert found.tokens.difference.mean < 0
    journals = {arm: [read_session(p) for p in (tmp_path / "out" / arm).rglob("*.jsonl") if "sessions" in p.parts]
                for arm in ("with", "without")}  # fmt: skip
    assert sum(e.kind == "recall" for s in journals["with"] for e in s.events) >= 6
    assert not [e for s in journals["without"] for e in s.events if e.kind == "recall"]
    assert {s.header["memory"] for s in journals["without"]} == {False}


def test_the_users_memory_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    memory = open_memory(settings.paths.data / "memory", cache=default_cache())
    memory.add([MemoryRecord("1", "service 0: the port is 7000", "note", "model", "earlier", 1, "a goal", 1.7e9)])
    before = list(export(memory))
    rows = [replace(row, remembered=()) for row in port_goals(1)]
    found = ablate(settings, rows, tmp_path / "out", policy=lambda session, row: Reader([]))
    assert (found.success.with_memory, found.success.without) == (1.0, 0.0), "it was shown what is remembered"
    assert list(export(memory)) == before
    assert "recalled" in before[0]


def test_seeds_make_pairs_and_a_goal_counts_once(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, sampling__temperature=0.7)
    rows = [replace(row, seed=40) for row in port_goals(2)]
    found = ablate(settings, rows, tmp_path / "out", seeds=3, policy=lambda session, row: Reader([]))
    assert (found.goals, found.pairs, found.won) == (2, 6, 2)
    assert found.p == 0.5
    seeds = [read_session(path).header["seed"] for path in (tmp_path / "out").rglob("sessions/*.jsonl")]
    assert sorted(seeds) == sorted([40, 41, 42] * 4)


def test_pairs_without_a_verdict_of_their_own_are_left_out() -> None:
    pairs = [("a#1", "a"), ("b#1", "b"), ("c#1", "c")]
    having = [Result("a#1", "finished", steps=2), Result("b#1", "error", reason="no model"), Result("c#1", "stuck")]
    lacking = [Result("a#1", "stuck", steps=5), Result("b#1", "finished")]
    found = compare(pairs, having, lacking)
    assert (found.pairs, found.left_out) == (1, ("b#1", "c#1"))
    assert (found.won, found.steps.difference.mean) == (1, -3.0)
    with pytest.raises(WhetstoneError, match="None of the 1 pairs can be compared: no model"):
        compare(pairs[1:2], having, lacking)


def test_nothing_to_compare_is_said_before_anything_runs(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    plain = [replace(row, remembered=()) for row in port_goals(1)]
    with pytest.raises(WhetstoneError, match="is empty and no goal has `remembered` notes"):
        ablate(settings, plain, tmp_path / "out")
    cold = settings_in(tmp_path, sampling__temperature=0)
    with pytest.raises(WhetstoneError, match="temperature 0"):
        ablate(cold, port_goals(1), tmp_path / "out", seeds=2)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table_and_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("finish", answer="7000")])
    goals = [
        {"id": "a", "goal": "Which port?", "check": {"answer": {"equals": "7000"}}, "remembered": ["the port is 7000"]},
        {"id": "b", "goal": "Which town?", "check": {"answer": {"equals": "Ulm"}}, "remembered": ["the town is Ulm"]},
    ]
    (place.folder / "goals.jsonl").write_text("".join(f"{json.dumps(goal)}\n" for goal in goals))
    cache = f"paths.cache={default_cache()}"
    ran = place.call("memory", "ablate", "goals.jsonl", "-o", "out", "-c", cache)
    assert ran.returncode == 0, ran.stderr
    assert "2 pairs of 2 goals; 0 goals won with memory, 0 lost, exact McNemar p = 1" in ran.stdout
    sessions = sorted((place.folder / "out").rglob("sessions/*.jsonl"))
    again = place.call("memory", "ablate", "goals.jsonl", "-o", "out", "-c", cache, "--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["success"]["with_memory"], found["success"]["without"]) == (0.5, 0.5)
    assert sorted((place.folder / "out").rglob("sessions/*.jsonl")) == sessions
    assert len(sessions) == 4


def test_goals_that_write_are_carried_out_both_ways(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("write_file", path="town.txt", content="Ulm"), act("finish", answer="written")])
    goal = {"id": "a", "goal": "Write it down.", "check": {"file": "town.txt", "equals": "Ulm"}, "remembered": ["Ulm"]}
    (place.folder / "goals.jsonl").write_text(json.dumps(goal))
    command = ("memory", "ablate", "goals.jsonl", "-c", f"paths.cache={default_cache()}", "--json")
    ran = place.call(*command, "-o", "out")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["success"]["with_memory"], found["success"]["without"]) == (1.0, 1.0)
    said = place.call("--approve", "read-only", *command, "-o", "read only")
    assert json.loads(said.stdout)["success"]["with_memory"] == 0.0, "what the user said of approval holds"


def test_ctrl_c_lets_the_running_goal_end_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("append_line", line=f"{n}") for n in range(40)] + [act("finish", answer="done")])
    goals = [{"id": f"{n}", "goal": "Append.", "remembered": ["Ulm"], "budget": {"steps": 200}} for n in range(2)]
    (place.folder / "goals.jsonl").write_text("".join(f"{json.dumps(goal)}\n" for goal in goals))
    command = ("--tools", "tests.side_effects:append_line", "memory", "ablate", "goals.jsonl", "-o", "out")
    command += ("-c", f"paths.cache={default_cache()}")
    process = subprocess.Popen(
        place.argv(*command), cwd=place.folder, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any((place.folder / "out/with/workspaces").glob("*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "no further goal is begun" in err
    assert "3 of 4 sessions are left: the same command with -o out goes on" in err
    again = place.call(*command)
    assert again.returncode == 0, again.stderr
    assert "2 pairs of 2 goals" in again.stdout
