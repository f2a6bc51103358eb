"""The dataset commands, run as a person would."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import Place
from tests.models import build_model
from tests.sessions import act, finish


def test_sessions_become_a_dataset_that_can_be_looked_at_and_taken_elsewhere(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("list_files"), finish("a.txt")])
    (place.workspace / "a.txt").write_text("1")
    assert place.call("-y", "--goal", "What is here?", "--check", "answer-equals:a.txt").returncode == 0
    assert place.call("-y", "--goal", "Nobody checks this.").returncode == 0
    model = str(build_model(tmp_path / "tiny"))
    built = place.call("-m", model, "dataset", "build", "-o", "set")
    assert built.returncode == 0, built.stderr
    assert "1 of 2 sessions" in built.stdout
    assert "left out: 1 not verified" in built.stdout
    shown = place.call("dataset", "show", "set").stdout
    assert "Goal: What is here?" in shown
    assert "⟦finish⟧" in shown
    stats = json.loads(place.call("dataset", "stats", "set", "--json").stdout)
    assert stats["counts"]["used"] == 1
    again = place.call("-m", model, "dataset", "build", "-o", "told", "--augment", "2").stdout
    assert "told again: 2 " in again
    chats = place.call("dataset", "export", "told").stdout
    assert json.loads(chats)["messages"][1]["content"] == "Goal: What is here?"

    (unchecked,) = stats["sessions_left_out"]
    assert place.call("dataset", "rate", unchecked, "good").returncode == 0
    assert "2 of 2 sessions" in place.call("-m", model, "dataset", "build", "-o", "set").stdout


def test_a_held_out_goal_stops_the_command(tmp_path: Path) -> None:
    place = Place(tmp_path, [finish("4")])
    assert place.call("-y", "--goal", "Add 2 and 2.", "--check", "answer-equals:4").returncode == 0
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"id": "1", "goal": "add 2 and 2", "check": {"answer": {"equals": "4"}}}))
    model = str(build_model(tmp_path / "tiny"))
    built = place.call("-m", model, "dataset", "build", "-o", "set", "--held-out", str(suite))
    assert built.returncode == 1
    assert "held-out goals" in built.stderr
    assert not (place.folder / "set").exists()
