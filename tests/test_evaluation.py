"""Evaluations: figures that can be checked by hand, files that are read back, comparisons goal by goal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.batch import Result
from agent.evaluation import EvalResult, compare, load_results, save_results
from agent.types import WhetstoneError
from tests.command import Place, act


def result(
    id: str, good: bool, *, family: str = "sum", steps: int = 2, invalid: int = 0, seconds: float = 1.0
) -> Result:
    return Result(
        id=id,
        ending="finished" if good else "failed_check",
        passed=good,
        family=family,
        tags=(f"family:{family}", "chain") if id == "a" else (f"family:{family}",),
        steps=steps,
        tokens=10 * steps,
        valid=steps - invalid,
        invalid=invalid,
        seconds=seconds,
        row=f"digest of {id}",
    )


def evaluation(*results: Result, goals: int = 0) -> EvalResult:
    return EvalResult("suite.jsonl", "d", goals or len(results), results, model={"name": "m"})


def test_families_are_summed_up_with_their_doubt() -> None:
    done = evaluation(
        result("a", True, seconds=1), result("b", False, steps=4, invalid=1, seconds=2), result("c", True, seconds=9),
        result("d", True, family="copy"),
    )  # fmt: skip
    copy, total = done.families()
    assert (copy.name, copy.goals, copy.rate, copy.high) == ("copy", 1, 1.0, 1.0)
    assert copy.low == pytest.approx(0.2065, abs=1e-3)  # Wilson, one of one
    assert (total.succeeded, total.goals, total.steps, total.tokens, total.seconds) == (2, 3, 8 / 3, 80 / 3, 2)
    assert total.valid == 7 / 8
    assert total.endings == {"finished": 2, "failed_check": 1}
    assert [(tag.name, tag.goals) for tag in done.tags()] == [("chain", 1)]


def test_an_evaluation_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    done = evaluation(result("a", True), result("b", False), goals=3)
    save_results(tmp_path / "eval.json", done)
    assert load_results(tmp_path / "eval.json") == done == load_results(tmp_path)
    assert not done.complete
    saved = json.loads((tmp_path / "eval.json").read_text())
    assert saved["total"]["rate"] == 0.5
    (tmp_path / "eval.json").write_text(json.dumps({**saved, "schema": 99}))
    with pytest.raises(WhetstoneError, match="newer version"):
        load_results(tmp_path)
    (tmp_path / "eval.json").write_text("[]")
    with pytest.raises(WhetstoneError, match="is no evaluation"):
        load_results(tmp_path)


def test_two_evaluations_are_compared_goal_by_goal() -> None:
    first = [result(f"g{n}", n < 4, steps=4) for n in range(10)]
    second = [result(f"g{n}", n < 9 and n != 0) for n in range(10)]
    found = compare(evaluation(*first), evaluation(*second))
    total = found.total
    assert (total.goals, total.first, total.second, total.won, total.lost) == (10, 0.4, 0.8, 5, 1)
    assert total.gain.mean == pytest.approx(0.4)
    assert total.gain.low < 0.4 < total.gain.high
    assert total.p == pytest.approx(2 * 7 / 64)  # P(at most 1 of 6) twice
    assert (total.steps, total.tokens) == (-2, -20)
    assert found.unpaired == 0


def test_a_goal_that_changed_has_no_partner() -> None:
    first, second = [result("a", True), result("b", True)], [result("a", True), replace(result("b", True), row="other")]
    found = compare(evaluation(*first), evaluation(*second))
    assert (found.total.goals, found.unpaired) == (1, 2)
    with pytest.raises(WhetstoneError, match="no goal in common"):
        compare(evaluation(first[1]), evaluation(second[1]))


SCRIPT = [act("write_file", path="out.txt", content="hello"), act("finish", answer="done")]
SUITE = [
    {"id": "good", "goal": "x", "check": {"file": "out.txt", "contains": "hello"}, "tags": ["family:write"]},
    {"id": "bad", "goal": "y", "check": {"file": "out.txt", "contains": "bye"}, "tags": ["family:write"]},
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path, SCRIPT)
    (place.folder / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SUITE))
    return place


def test_the_command_measures_saves_and_goes_on(place: Place) -> None:
    first = place.call("eval", "suite.jsonl", "--save", "a.json")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[1].split()[:6] == ["write", "1/2", "50.0", "%", "9-91", "%"]
    again = place.call("eval", "suite.jsonl", "--save", "b.json")
    a, b = load_results(place.folder / "a.json"), load_results(place.folder / "b.json")
    assert [r.session for r in a.results] == [r.session for r in b.results]  # nothing ran twice
    assert again.stdout == first.stdout
    fresh = place.call("eval", "suite.jsonl", "--fresh", "--save", "c.json")
    assert fresh.returncode == 0
    assert {r.session for r in load_results(place.folder / "c.json").results}.isdisjoint(r.session for r in a.results)
    compared = place.call("eval", "--compare", "a.json", "c.json")
    assert compared.returncode == 0
    assert compared.stdout.splitlines()[-1].split()[:4] == ["all", "2", "50.0", "%"]


def test_an_evaluation_is_greedy_unless_the_command_line_says_otherwise(place: Place) -> None:
    with open(place.folder / "agent.toml", "a") as file:
        file.write("[sampling]\ntemperature = 0.9\n")
    place.call("eval", "suite.jsonl", "--save", "a.json")
    assert load_results(place.folder / "a.json").settings["sampling.temperature"] == 0
    place.call("--temperature", "0.5", "eval", "suite.jsonl", "--save", "b.json")
    assert load_results(place.folder / "b.json").settings["sampling.temperature"] == 0.5


def test_json_is_one_object_a_line(place: Place) -> None:
    ran = place.call("--json", "eval", "suite.jsonl")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [event["event"] for event in events] == ["result", "result", "eval"]
    assert events[-1]["rate"] == 0.5


def test_wrong_usage_is_one_sentence(place: Place) -> None:
    (place.folder / "broken.jsonl").write_text('{"goal": "x", "check": {"fiel": 1}}\n')
    (place.folder / "empty.jsonl").write_text("")
    for arguments, said in [
        (["eval"], "Name a suite"),
        (["eval", "nowhere.jsonl"], "No such file"),
        (["eval", "empty.jsonl"], "it holds no goal"),
        (["eval", "broken.jsonl"], "line 1: a check with the keys"),
        (["eval", "suite.jsonl", "--compare", "a", "b"], "takes no suite"),
        (["eval", "suite.jsonl", "-j", "0"], "greater than or equal to 1"),
    ]:
        ran = place.call(*arguments)
        assert (ran.returncode, said in ran.stderr, ran.stderr.count("\n")) == (2, True, 1), ran.stderr
    missing = place.call("eval", "--compare", "a.json", "b.json")
    assert (missing.returncode, "cannot be read" in missing.stderr) == (1, True)
