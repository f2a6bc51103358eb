"""Goal files: every form is read, every bad row is named with its line, and what is written is read back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agent.goalfile import GoalRow, goal_data, read_goals
from agent.types import Budget, Goal, WhetstoneError

FULL = {
    "id": "sum-1",
    "goal": "Add up sales.csv.",
    "files": {"sales.csv": "a,b\n1,2\n"},
    "check": {"answer": {"equals": "3"}},
    "answer_schema": {"type": "string", "maxLength": 20},
    "budget": {"steps": 5, "seconds": 1.5},
    "tags": ["family:csv_sum", "easy"],
    "remembered": ["The total is in euro."],
    "model": "starter",
    "seed": 7,
}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def test_every_field_of_a_row_is_read(tmp_path: Path) -> None:
    (row,) = read_goals(lines(tmp_path / "goals.jsonl", FULL), budget=Budget(steps=9, tokens=100))
    assert row == GoalRow(
        id="sum-1",
        goal=Goal(
            "Add up sales.csv.",
            check={"answer": {"equals": "3"}},
            answer_schema={"type": "string", "maxLength": 20},
            budget=Budget(steps=5, tokens=100, seconds=1.5),
            tags=("family:csv_sum", "easy"),
        ),
        files={"sales.csv": "a,b\n1,2\n"},
        remembered=("The total is in euro.",),
        model="starter",
        seed=7,
    )
    assert row.family == "csv_sum"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (row,) = read_goals(lines(tmp_path / "goals.jsonl", FULL))
    assert read_goals(lines(tmp_path / "again.jsonl", goal_data(row))) == [row]
    assert goal_data(GoalRow("a", Goal("b"))) == {"id": "a", "goal": "b"}


def test_goals_come_from_json_a_folder_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.json").write_text(json.dumps([{"goal": "two"}, {"goal": "three"}]))
    (tmp_path / "c.json").write_text(json.dumps({"goal": "four"}))
    lines(tmp_path / "a.jsonl", "\ufeff" + json.dumps({"goal": "one"}), "", "  ")
    (tmp_path / "notes.txt").write_text("not a goal")
    assert [(row.id, row.goal.text) for row in read_goals(tmp_path)] == [
        ("a-1", "one"), ("b-1", "two"), ("b-2", "three"), ("c-1", "four"),
    ]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"goal": "five"}\r\n')))
    assert [(row.id, row.goal.text) for row in read_goals("-")] == [("goal-1", "five")]


def test_csv_takes_a_template_or_names_the_fields(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text('name,city\n"Ada, the first",London\nEmil,Bonn\n')
    rows = read_goals(tmp_path / "people.csv", template="Write to {name} in {city}.")
    assert [row.goal.text for row in rows] == ["Write to Ada, the first in London.", "Write to Emil in Bonn."]
    template = {"id": "to-{name}", "goal": "Greet {name}.", "files": {"{city}.txt": "{name}"}, "tags": ["{city}"]}
    rows = read_goals(tmp_path / "people.csv", template=json.dumps(template))
    assert (rows[1].id, dict(rows[1].files), rows[1].goal.tags) == ("to-Emil", {"Bonn.txt": "Emil"}, ("Bonn",))
    (tmp_path / "rows.csv").write_text('id,goal,tags,seed\nx,"Do it.","[""a""]",3\n')
    (row,) = read_goals(tmp_path / "rows.csv")
    assert (row.id, row.goal.tags, row.seed) == ("x", ("a",), 3)


def test_a_template_that_nothing_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lines(tmp_path / "a.jsonl", {"goal": "one"}).parent
    (tmp_path / "b.json").write_text('{"goal": "two"}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"goal": "three"}\n')))
    for source in (folder, folder / "a.jsonl", folder / "b.json", "-"):
        with pytest.raises(WhetstoneError, match="a template makes goals of CSV rows"):
            read_goals(source, template="Greet {name}.", on_bad=print)
    (tmp_path / "c.csv").write_text("name\nAda\n")
    assert [row.goal.text for row in read_goals(folder, template="Greet {name}.")] == ["one", "two", "Greet Ada."]


def test_a_workspace_is_found_from_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "deep/material").mkdir(parents=True)
    (row,) = read_goals(lines(tmp_path / "deep/goals.jsonl", {"goal": "x", "workspace": "material"}))
    assert row.workspace == tmp_path / "deep/material"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{nonsense", "not valid JSON"),
        ("[1, 2]", "a goal is a JSON object, not list"),
        ('{"goal": NaN}', "NaN is not a JSON value"),
        ({"id": "a"}, "it has no goal"),
        ({"goal": "  "}, "it has no goal"),
        ({"goal": 3}, "'goal' must be text, not int"),
        ({"goal": "x", "cheque": 1}, "did you mean 'check'?"),
        ({"goal": "x", "check": {"file": "a"}}, "a check with the keys"),
        ({"goal": "x", "check": "answer-equals:3"}, "a check must be a JSON object"),
        ({"goal": "x", "answer_schema": {"type": "nonsense"}}, "not a JSON Schema"),
        ({"goal": "x", "budget": {"stesp": 3}}, "the budget has no 'stesp'"),
        ({"goal": "x", "budget": {"steps": 0}}, "must be a number above 0"),
        ({"goal": "x", "budget": {"steps": 1.5}}, "must be a number above 0"),
        ({"goal": "x", "files": {"../a": "b"}}, "lies outside the workspace"),
        ({"goal": "x", "files": {"a": 1}}, "must be text, not int"),
        ({"goal": "x", "workspace": "nowhere"}, "is not a folder"),
        ({"goal": "x", "tags": "a"}, "'tags' must be a list of texts"),
        ({"goal": "x", "seed": -1}, "a whole number from 0"),
        ({"goal": "x", "seed": True}, "a whole number from 0"),
        ({"goal": "x", "id": ["a"]}, "'id' must be text"),
        ({"goal": "x", "id": "good"}, "the id 'good' is taken by"),
        ('{"goal": "\\ud800"}', "half a character"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_rest_is_read(tmp_path: Path, bad: object, said: str) -> None:
    path = lines(tmp_path / "goals.jsonl", {"id": "good", "goal": "one"}, bad, {"id": "last", "goal": "two"})
    told: list[str] = []
    assert [row.id for row in read_goals(path, on_bad=told.append)] == ["good", "last"]
    assert len(told) == 1
    assert told[0].startswith(f"{path}, line 2: ")
    assert said in told[0]
    with pytest.raises(WhetstoneError) as caught:
        read_goals(path)
    assert str(caught.value) == told[0]


def test_sources_that_hold_nothing_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "table.csv").write_text("name\nAda\n")
    (tmp_path / "broken.json").write_text("{")
    for source, said in [
        ("empty.jsonl", "it holds no goal"),
        ("nowhere.jsonl", "No such file"),
        ("folder", "holds no goal files"),
        ("binary.jsonl", "not UTF-8"),
        ("table.csv", "has no column 'goal'"),
        ("broken.json", "not valid JSON"),
    ]:
        with pytest.raises(WhetstoneError, match=said):
            read_goals(tmp_path / source)
    with pytest.raises(WhetstoneError, match="none of its 1 goals can be used"):
        read_goals(tmp_path / "table.csv", template="Greet {nobody}.", on_bad=lambda _: None)
    (tmp_path / "table.csv").write_text("name\nAda,Lovelace\n")
    with pytest.raises(WhetstoneError, match="more cells than columns"):
        read_goals(tmp_path / "table.csv", template="Greet {name}.")
