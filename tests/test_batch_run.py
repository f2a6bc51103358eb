"""Running many goals: each gets what it needs and nothing of the others'; an interrupted batch goes on."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from agent.batch import Result, Stopping, read_results, run_rows
from agent.batch.material import tree_digest
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.policies.scripted import ScriptedPolicy
from agent.settings import Settings
from agent.types import Goal, MemoryRecord, Policy, WhetstoneError
from memory.index import VectorMemory
from tests.sessions import act, finish, settings_for
from tools.sandbox import probe


def row(id: str, *, text: str = "Do it.", contains: str = "made", **fields: object) -> GoalRow:
    goal = Goal(text, check={"file": "out.txt", "contains": contains}, tags=("family:writing",))
    return GoalRow(id, goal, **fields)  # pyright: ignore[reportArgumentType]


def writes(session: str, row: GoalRow) -> Policy:
    return ScriptedPolicy([act("write_file", path="out.txt", content=f"made by {row.id}"), finish()])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, [act("write_file", path="out.txt", content="made"), finish()])


def test_each_goal_has_its_own_workspace_and_journal(tmp_path: Path, settings: Settings) -> None:
    rows = [row(f"goal-{n}", contains=f"made by goal-{n}", files={"in/a.txt": str(n)}) for n in range(12)]
    seen: list[Result] = []
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=4, policy=writes, on_result=seen.append)
    assert [r.id for r in results] == [r.id for r in rows]
    assert {r.id for r in seen} == {r.id for r in rows}
    assert all(r.passed and r.succeeded and r.steps == 2 and r.valid == 2 and r.family == "writing" for r in results)
    for each in results:
        folder = tmp_path / "out/workspaces" / each.id
        assert (folder / "out.txt").read_text() == f"made by {each.id}"
        assert (folder / "in/a.txt").read_text() == each.id.removeprefix("goal-")
        assert read_session(tmp_path / "out" / each.journal).header["workspace"] == str(folder)
    assert read_results(tmp_path / "out") == seen


def test_a_workspace_is_copied_and_the_original_stays_as_it_is(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/out.txt").write_text("before")
    (result,) = run_rows(settings, [row("a", workspace=tmp_path / "source")], out=tmp_path / "out")
    assert result.succeeded
    assert (tmp_path / "source/out.txt").read_text() == "before"
    assert (tmp_path / "out/workspaces/a/out.txt").read_text() == "made"


def test_a_second_run_keeps_results_and_redoes_changed_rows(tmp_path: Path, settings: Settings) -> None:
    first = run_rows(settings, [row("a"), row("b")], out=tmp_path / "out")
    again = run_rows(settings, [row("a"), row("b", text="Do it better.")], out=tmp_path / "out")
    assert again[0] == first[0]
    assert again[1].session != first[1].session
    assert read_results(tmp_path / "out") == again


def test_a_row_is_redone_when_its_source_folder_was_edited(tmp_path: Path, settings: Settings) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    for folder in (source / "deep", other):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("one")
    rows = [row("a", workspace=source), row("b", workspace=other)]
    first = run_rows(settings, rows, out=tmp_path / "out")
    (source / "deep/a.txt").touch()
    assert run_rows(settings, rows, out=tmp_path / "out") == first
    (source / "deep/a.txt").write_text("two")
    again = run_rows(settings, rows, out=tmp_path / "out")
    assert (again[0].session != first[0].session, again[1]) == (True, first[1])
    assert (tmp_path / "out/workspaces/a/deep/a.txt").read_text() == "two"
    (other / "empty").mkdir()
    third = run_rows(settings, rows, out=tmp_path / "out")
    assert (third[0], third[1].session != first[1].session) == (again[0], True)
    assert read_results(tmp_path / "out") == third


def test_the_digest_of_a_folder_takes_whatever_lies_there(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    os.mkfifo(folder / "pipe")  # reading it would wait for ever
    (folder / "link").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("not text in its name")
    before = tree_digest(folder)
    assert tree_digest(shutil.copytree(folder, tmp_path / "moved", symlinks=True, ignore=_pipes)) != before
    (folder / "pipe").unlink()
    assert tree_digest(tmp_path / "moved") == tree_digest(folder)
    (folder / "link").unlink()
    (folder / "link").symlink_to("elsewhere")
    assert tree_digest(folder) != tree_digest(tmp_path / "moved")
    assert tree_digest(tmp_path / "nowhere") != tree_digest(folder)


def _pipes(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "pipe"]


def test_changed_settings_are_refused_unless_fresh(tmp_path: Path, settings: Settings) -> None:
    (before,) = run_rows(settings, [row("a")], out=tmp_path / "out")
    other = settings_for(tmp_path, [act("write_file", path="out.txt", content="made"), finish()], budget__steps=7)
    with pytest.raises(WhetstoneError, match=r"budget\.steps was 20 and is 7"):
        run_rows(other, [row("a")], out=tmp_path / "out")
    (after,) = run_rows(other, [row("a")], out=tmp_path / "out", fresh=True)
    assert after.session != before.session


def test_one_goal_that_cannot_be_set_up_does_not_stop_the_others(tmp_path: Path, settings: Settings) -> None:
    rows = [row("gone", workspace=tmp_path / "nowhere"), row("good"), row("outside", files={"../a": "x"})]
    gone, good, outside = run_rows(settings, rows, out=tmp_path / "out", in_flight=2)
    assert good.succeeded
    assert (gone.ending, outside.ending) == ("error", "error")
    assert "is not a folder" in gone.reason
    assert "lies outside the workspace" in outside.reason
    assert not (tmp_path / "out/a").exists()


def test_a_stopped_goal_goes_on_with_its_own_session(tmp_path: Path, settings: Settings) -> None:
    stopping = Stopping()

    def stops(session: str, row: GoalRow) -> Policy:
        if row.id == "b":
            stopping.stop()
        return writes(session, row)

    (tmp_path / "source").mkdir()
    (tmp_path / "source/in.txt").write_text("in")
    rows = [row("a"), row("b", workspace=tmp_path / "source"), row("c")]
    results = run_rows(settings, rows, out=tmp_path / "out", policy=stops, stopping=stopping)
    assert [r.id for r in results] == ["a"]
    begun = [json.loads(line) for line in (tmp_path / "out/started.jsonl").read_text().splitlines()]
    results = run_rows(settings, rows, out=tmp_path / "out", policy=writes)
    assert [r.succeeded for r in results] == [True] * 3
    assert [r.session for r in results[:2]] == [start["session"] for start in begun]


def test_an_error_is_tried_again_and_leaves_one_result(tmp_path: Path, settings: Settings) -> None:
    def fails(session: str, row: GoalRow) -> Policy:
        return ScriptedPolicy([act("write_file", path="out.txt", content="made")])

    (failed,) = run_rows(settings, [row("a")], out=tmp_path / "out", policy=fails)
    assert failed.ending == "error"
    (mended,) = run_rows(settings, [row("a")], out=tmp_path / "out", policy=lambda s, r: _longer())
    assert mended.succeeded
    assert mended.session == failed.session
    assert read_results(tmp_path / "out") == [mended]


def _longer() -> Policy:
    return ScriptedPolicy([act("write_file", path="out.txt", content="made"), finish()])


def test_remembered_notes_are_recalled_by_their_goal_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, [act("recall", query="the code of the door"), finish()])
    goal = Goal("What is the code of the door?")
    rows = [GoalRow("knows", goal, remembered=("The code of the door is 4711.",)), GoalRow("does-not", goal)]
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=2)
    told = [
        [e.data["text"] for e in read_session(tmp_path / "out" / r.journal).events if e.kind == "observation"]
        for r in results
    ]
    assert "4711" in told[0][0]
    assert "4711" not in str(told[1])


def test_with_its_own_memory_a_goal_recalls_what_it_noted_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, [])
    with closing(VectorMemory(settings.paths.data / "memory", cache=settings.paths.cache)) as memory:
        memory.add([MemoryRecord("a", "The code of the door is 4711.", "note", "user", "earlier", 1, "", 1.0)])

    def notes(session: str, row: GoalRow) -> Policy:
        noted = act("remember", text=f"The code of the door is in {row.id}.")
        return ScriptedPolicy([noted, act("recall", query="the code of the door"), finish()])

    rows = [GoalRow(id, Goal("What is the code of the door?")) for id in ("kitchen", "cellar")]
    results = run_rows(settings, rows, out=tmp_path / "out", memory="own", policy=notes)
    for result, other in zip(results, ("cellar", "kitchen"), strict=True):
        said = [e.data for e in read_session(tmp_path / "out" / result.journal).events if e.kind == "observation"]
        assert [each["status"] for each in said] == ["ok"] * 3
        assert f"is in {result.id}" in said[1]["text"]
        assert other not in said[1]["text"]
        assert "4711" not in said[1]["text"]
    with closing(VectorMemory(settings.paths.data / "memory", cache=settings.paths.cache)) as memory:
        assert [hit.record.id for hit in memory.search("the code of the door")] == ["a"]


def test_doubled_ids_foreign_folders_and_unwritable_ones_are_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(WhetstoneError, match="two goals have the id 'a'"):
        run_rows(settings, [row("a"), row("a")], out=tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("x")
    with pytest.raises(WhetstoneError, match="holds something that is no batch"):
        run_rows(settings, [row("a")], out=tmp_path / "mine", fresh=True)
    with pytest.raises(WhetstoneError, match="cannot be written"):
        run_rows(settings, [row("a")], out=tmp_path / "mine/letter.txt")


def test_any_text_can_be_an_id(tmp_path: Path, settings: Settings) -> None:
    rows = [row(id) for id in ("..", "a/b", "a b", "a-b", "ü" * 300, "")]
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=3)
    assert all(r.succeeded for r in results)
    assert len(list((tmp_path / "out/workspaces").iterdir())) == len(rows)


def test_the_users_memory_is_asked_and_not_changed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, [act("recall", query="the code of the door"), finish()])
    with closing(VectorMemory(settings.paths.data / "memory", cache=settings.paths.cache)) as memory:
        memory.add([MemoryRecord("a", "The code of the door is 4711.", "note", "user", "earlier", 1, "", 1.0)])
    rows = [GoalRow(f"g{n}", Goal("What is the code of the door?")) for n in range(2)]
    results = run_rows(settings, rows, out=tmp_path / "out", memory="shared-read", in_flight=2)
    for result in results:
        events = read_session(tmp_path / "out" / result.journal).events
        assert any("4711" in e.data["text"] for e in events if e.kind == "observation")
    with closing(VectorMemory(settings.paths.data / "memory", cache=settings.paths.cache)) as memory:
        assert [hit.record.id for hit in memory.search("the code of the door")] == ["a"]


def test_scripts_and_checks_run_in_the_sandbox_of_their_own_goal(tmp_path: Path) -> None:
    if not any(c.available and not c.reduced for c in probe(tmp_path)):
        pytest.skip("no full sandbox works here")
    source = "import os; open('out.txt', 'w').write('made in ' + ','.join(sorted(os.listdir('.'))))"
    settings = settings_for(tmp_path, [act("run_python", code=source), finish()], sandbox__rung="auto")
    rows = [row(f"g{n}", contains=f"made in {n}.txt", files={f"{n}.txt": ""}) for n in range(3)]
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=3)
    told = [read_session(tmp_path / "out" / r.journal).events for r in results]
    assert all(r.succeeded for r in results), [e.data["text"] for t in told for e in t if e.kind == "observation"]
    assert all(events[0].data["sandbox"]["rung"] != "none" for events in told)
