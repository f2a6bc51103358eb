"""The curriculum: every goal can be solved, none is held out and trained on, the same seed gives the same goals."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from agent.check import validate_check
from agent.journal import read_session
from agent.learning.curriculum import families, names, tables, task_named, training_ids
from agent.learning.curriculum.checks import number_pattern
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.slips import slipping, to_be_made
from agent.learning.curriculum.suite import suite, suite_digest, suite_ids
from agent.learning.curriculum.task import Act, Play, Said
from agent.learning.curriculum.teacher import Classroom, teach
from agent.learning.curriculum.wording import expand, wordings
from agent.types import WhetstoneError
from tests.command import Place

SEEN = [family.name for family in families().values() if family.seen]
KEPT = [family.name for family in families().values() if not family.seen]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    data = tmp_path_factory.mktemp("taught")
    with Classroom(data / "data", cache=data / "cache") as opened:
        yield opened


@pytest.mark.parametrize("name", families())
def test_every_teacher_solves_its_goals_with_the_real_tools(name: str, room: Classroom) -> None:
    splits = ("train", "heldout") if families()[name].seen else ("heldout",)
    for id in [f"{name}/{split}/5/{number}" for split in splits for number in range(2)]:
        lesson = room.teach(task_named(id))
        assert lesson.passed, f"{id}: {lesson.ending}: {lesson.reason}"
        assert lesson.characters < 8000, "a session must stay short enough to be learned"
        events = read_session(room.sessions / f"{lesson.session}.jsonl").events
        assert events[-1].data["check"]["passed"]
        for event in events:
            if event.kind == "action":
                assert 0 < len(event.data["thought"].split()) <= 40, event.data["thought"]


@pytest.mark.parametrize("name", SEEN)
def test_a_family_is_said_in_many_ways(name: str) -> None:
    assert len({task_named(f"{name}/train/11/{number}").row.goal.text for number in range(300)}) >= 100


def test_no_goal_of_the_suite_is_trained_on() -> None:
    trained = {_bare(task_named(id).row.goal.text) for id in training_ids(2000, 3)}
    shared = [row.goal.text for row in suite() if _bare(row.goal.text) in trained]
    assert not shared


def test_no_held_out_wording_is_trained_on() -> None:
    modules = resources.files("agent.learning.curriculum").joinpath("wordings").iterdir()
    for module in modules:
        for name, kind in wordings(module.name.removesuffix(".toml")).items():
            heldout = {reading for template in kind.heldout for reading in _readings(template)}
            shared = [template for template in kind.train if heldout & _readings(template)]
            assert not shared, f"{module.name}, {name}"


def test_held_out_names_are_never_trained_on() -> None:
    trained, heldout = Draw(random.Random(0), "train"), Draw(random.Random(0), "heldout")
    for pool in (names.FIRST, names.LAST, names.CITIES, names.PRODUCTS, names.WORDS, names.STEMS, names.SETTINGS):
        drawn = {trained.pick(pool) for _ in range(3000)} | {name for _ in range(300) for name in trained.some(pool, 9)}
        assert not drawn & set(heldout.share(pool))


def test_training_names_are_many_and_held_out_ones_stay_those_of_the_pools() -> None:
    trained, heldout = Draw(random.Random(0), "train"), Draw(random.Random(0), "heldout")
    assert len({trained.pick(names.STEMS) for _ in range(3000)}) > 10 * len(names.STEMS)
    assert {heldout.pick(names.STEMS) for _ in range(3000)} == set(heldout.share(names.STEMS))
    for _ in range(300):
        assert len(set(trained.some(names.FIRST, 12))) == 12


def test_no_training_table_has_the_columns_of_a_held_out_kind_alone() -> None:
    trained, heldout = Draw(random.Random(0), "train"), Draw(random.Random(0), "heldout")
    usual, kept = trained.share(tables.KINDS), heldout.share(tables.KINDS)
    own = set().union(*map(_columns, kept)) - set().union(*map(_columns, usual))
    assert own
    made = [tables.table(trained) for _ in range(600)]
    assert not own & set().union(*(table.columns for table in made))
    assert len({table.columns for table in made}) > 200


def _columns(kind: tables.Kind) -> set[str]:
    return {kind.label[0], *(name for name, _ in kind.categories), *(name for name, _, _ in kind.numbers)}


def test_the_suite_is_large_and_has_all_that_was_promised() -> None:
    rows = suite()
    kinds = {row.family for row in rows}
    assert len(rows) >= 300
    assert len({row.id for row in rows}) == len(rows)
    assert set(SEEN) | set(KEPT) == kinds
    assert len(KEPT) == 3
    assert sum("chain" in row.goal.tags for row in rows) >= 50
    assert sum("unseen" in row.goal.tags for row in rows) == 30
    for row in rows:
        assert row.goal.check is not None
        validate_check(dict(row.goal.check))


def test_the_suite_is_the_same_on_every_machine() -> None:
    """Goes red whenever a held-out goal changes: then raise `curriculum.VERSION`, and measure every model anew."""
    assert suite_digest(suite()) == "f33b884f3d0771cd3259af970bc90fdccff4c52d25de9af2b243602e63f39b60"


def test_one_id_is_one_task_for_ever() -> None:
    for id in training_ids(60, 4):
        assert task_named(id).row == task_named(id).row
    assert training_ids(200, 1) == training_ids(200, 1)
    assert len(set(training_ids(200, 1))) == 200


def test_families_kept_for_evaluation_cannot_be_trained_on() -> None:
    assert not {id.partition("/")[0] for id in training_ids(3000, 0)} & set(KEPT)
    with pytest.raises(WhetstoneError, match="kept for evaluation"):
        task_named(f"{KEPT[0]}/train/0/0")


def test_half_of_the_settings_are_asked_for_by_a_key_that_only_one_section_has() -> None:
    """Else a key alone, without its section, would be a sign that the setting is to be changed."""
    bare = 0
    tasks = [task_named(f"config_value/train/3/{number}") for number in range(60)]
    for task in tasks:
        named = {path: text for path, text in task.row.files.items() if path.rpartition("/")[2] in task.row.goal.text}
        path, text = max((named or task.row.files).items(), key=lambda file: file[1].count("\n"))
        said = task.row.goal.text.lower().replace("_", " ")
        sections = re.findall(r"^(?:\[(\w+)\]|(\w+):$|  \"(\w+)\": \{)", text, re.M)
        if path.endswith(".env") or any(
            re.search(rf"\b{''.join(name).replace('_', ' ')}\b", said) for name in sections
        ):
            continue
        keys = [key.replace("_", " ") for key in re.findall(r"^\s*\"?(\w+)\"?(?: = |: )(?!\{)", text, re.M)]
        asked = max((key for key in keys if re.search(rf"\b{key}\b", said)), key=len)
        assert keys.count(asked) == 1, task.row.goal.text
        bare += 1
    assert bare > 20


def test_most_goals_have_the_tools_that_a_run_has_by_default() -> None:
    tasks = [task_named(id) for id in training_ids(1000, 0)]
    usual = sum(task.memory and task.tools == ("*",) for task in tasks)
    assert 0.65 < usual / len(tasks) < 0.9


def test_a_teacher_who_slips_is_told_and_repairs_it(room: Classroom) -> None:
    lines = [
        "import csv", "rows = list(csv.DictReader(open('donations.csv')))",
        "import os", "os.makedirs('new', exist_ok=True)", "open('new/b.txt', 'w').write(str(len(rows)))",
    ]  # fmt: skip
    task = task_named("talk/train/1/1")
    files = {"donations.csv": "a\n1\n"}

    def play(_: str) -> Play:
        yield Act("I read it.", "read_file", {"path": "donations.csv"})
        yield Act("I count.", "run_python", {"code": "\n".join(lines)})
        return Said("It is written.", "1")

    repairs: set[str] = set()
    for number in range(40):
        goal = replace(task.row.goal, text="Count donations.csv to new/b.txt")
        row = replace(task.row, files=files, goal=replace(goal, check={"file": "new/b.txt", "equals": "1"}))
        slipped = slipping(play, Draw(random.Random(number), "train"), row)
        lesson = room.teach(replace(task, row=row, play=slipped, tools=("*",)))
        assert lesson.passed, number
        events = read_session(room.sessions / f"{lesson.session}.jsonl").events
        statuses = [e.data["status"] for e in events if e.kind == "observation"]
        assert statuses.count("error") == lesson.steps - 3 <= 1
        if "error" in statuses:
            after = [e.data["thought"] for e in events if e.kind == "action"][statuses.index("error") + 1]
            told = next(e.data["text"] for e in events if e.kind == "observation" and e.data["status"] == "error")
            assert ("misspelt" in after) == ("did you mean 'donations.csv'?" in told), "said in the result"
            assert ("no folder new" in after) == ("os.makedirs('new')" in told)
            repairs.add(after)
    assert repairs == {
        "I misspelt it, the file is donations.csv.", "There is no folder new, the script makes it first.",
        "new/b.txt is not there yet, it is still to be made. I read it.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "check", "files", "wanted"),
    [
        ("Count a.csv to new/b.txt", {"file": "new/b.txt", "equals": "1"}, {"a.csv": ""}, ["new/b.txt"]),
        ("Is there a catalog.txt here?", {"answer": {"contains": "no"}}, {"a.csv": ""}, []),
        ("Put 'x' in notes.txt in a new folder work", {"file": "work/notes.txt", "equals": "x"}, {}, []),
        ("a.txt: b.txt", {"all": [{"file": "a.txt", "exists": False}, {"file": "b.txt", "equals": ""}]}, {}, ["b.txt"]),
    ],
)  # fmt: skip
def test_only_files_that_the_goal_wants_made_are_looked_into_too_soon(
    text: str, check: dict[str, Any], files: dict[str, str], wanted: list[str]
) -> None:
    row = task_named("talk/train/1/1").row
    assert to_be_made(replace(row, files=files, goal=replace(row.goal, text=text, check=check))) == wanted


def test_a_session_that_fails_its_check_leaves_no_journal(tmp_path: Path) -> None:
    task = task_named("read_out/train/0/1")

    def wrong(_: str) -> Iterator[object]:
        return Said("I guess.", "something else")
        yield

    with Classroom(tmp_path / "data", cache=tmp_path / "cache") as room:
        lesson = room.teach(replace(task, play=wrong, tools=("*",)))  # type: ignore[arg-type]
        assert (lesson.passed, lesson.ending) == (False, "failed_check")
        assert not list(room.sessions.glob("*.jsonl"))


def test_teaching_side_by_side_gives_the_same_sessions(tmp_path: Path) -> None:
    ids = training_ids(24, 9)
    lessons = list(teach(ids, tmp_path / "data", cache=tmp_path / "cache", workers=2))
    assert [lesson.id for lesson in lessons] == list(ids)
    assert all(lesson.passed for lesson in lessons)
    journals = [read_session(path) for path in (tmp_path / "data" / "sessions").glob("*.jsonl")]
    assert len(journals) == 24
    texts = sorted(task_named(id).row.goal.text for id in ids)
    assert sorted(journal.header["goal"]["text"] for journal in journals) == texts


def test_the_command_makes_goals_and_teaches_them(tmp_path: Path) -> None:
    place = Place(tmp_path)
    goals, data = tmp_path / "goals.jsonl", place.folder / "data"
    made = place.call("curriculum", "make", "--count", "6", "--seed", "2", "-o", str(goals))
    assert made.returncode == 0, made.stderr
    rows = [json.loads(line) for line in goals.read_text().splitlines()]
    assert len(rows) == 6
    assert {"id", "goal", "files", "check", "tags"} <= set(rows[0])
    taught = place.call("curriculum", "teach", str(goals), "-o", "data")  # from the folder it is called in
    assert taught.returncode == 0, taught.stderr
    assert "6 of 6 sessions verified" in taught.stderr
    assert len(list((data / "sessions").glob("*.jsonl"))) == 6
    endings = ["finished", "failed_check", "stuck"]
    results = [json.dumps({"id": row["id"], "ending": ending}) for row, ending in zip(rows, endings, strict=False)]
    (tmp_path / "results.jsonl").write_text("".join(f"{line}\n" for line in results))
    again = place.call("curriculum", "teach", str(goals), "--missed", str(tmp_path), "-o", "missed")
    assert "2 of 2 sessions verified" in again.stderr
    (tmp_path / "results.jsonl").write_text(f"{results[0]}\n")
    none = place.call("curriculum", "teach", str(goals), "--missed", str(tmp_path), "-o", "none")
    assert none.returncode == 2
    assert "None of the 6 goals" in none.stderr
    rows[0]["goal"] += " And something else"
    goals.write_text("\n".join(map(json.dumps, rows)))
    refused = place.call("curriculum", "teach", str(goals), "-o", str(data))
    assert refused.returncode == 2
    assert "Line 1" in refused.stderr
    listed = place.call("curriculum", "list")
    assert all(name in listed.stdout for name in families())


@pytest.mark.parametrize(
    ("value", "right", "wrong"),
    [
        (12, ("12", "12.0", "There are 12.", "12 rows"), ("112", "120", "12.5", "-12", "1.12")),
        (1234.5, ("1234.5", "1,234.50", "It is 1234.5."), ("1234", "1234.55", "234.5")),
        (33.305, ("33.3", "33.30", "33.305"), ("33.4", "33", "33.35")),
        (1 / 3, ("0.33", "0.333", "0.3333333333333333"), ("0.3", "0.34", "33")),
    ],
)
def test_a_number_may_be_written_in_any_fair_way(value: float, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    assert all(re.search(number_pattern(value), text) for text in right)
    assert not any(re.search(number_pattern(value), text) for text in wrong)


def test_a_question_that_should_be_refused_is_not_passed_by_an_answer() -> None:
    """Each goal whose right action is to stop has a check that a guess fails."""
    for family in ("missing_file", "missing_value", "empty_file", "beyond_reach", "not_remembered"):
        for number in range(20):
            check = task_named(f"{family}/heldout/0/{number}").row.goal.check
            assert check is not None
            patterns = [part["answer"]["matches"] for part in check.get("all", [check])]
            assert not all(re.search(pattern, "It is 4711.") for pattern in patterns)


def test_suite_ids_name_what_the_suite_holds() -> None:
    assert [row.id for row in suite(7)] == list(suite_ids(7))
    assert suite_digest(suite(7)) != suite_digest(suite())


def _readings(template: str) -> set[str]:
    """What a template may say, as far as a hundred tries show, bare of capitals and signs."""
    values = {name: name.upper() for name in re.findall(r"\{(\w+)\}", template)}
    rng = random.Random(0)
    return {_bare("".join(text for text, _ in expand(rng, template.removeprefix("~"), values))) for _ in range(100)}


def _bare(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
