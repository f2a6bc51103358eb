"""Retold sessions: as true as the lived ones, kept apart from what is held out, and no plain dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.engine.models import LoadedModel, load_model
from agent.journal import Session, read_session
from agent.learning.adapters import Registry
from agent.learning.augmenting import Augmenter, Retold, retellings
from agent.learning.curriculum import task_named
from agent.learning.curriculum.task import Act, Play, Said
from agent.learning.curriculum.teacher import Classroom
from agent.learning.dataset import build_dataset, read_examples
from agent.learning.heldout import read_held_out
from agent.learning.learner import Base
from agent.learning.purging import purge
from agent.learning.recipe import Recipe
from agent.learning.schedule import split_by_goal
from agent.learning.sequences import SessionEncoder
from agent.learning.trainer import train
from agent.types import WhetstoneError
from tests.learning.test_dataset import encoder_of, session_of
from tests.sessions import act, finish

FAMILIES = (
    "csv_sum", "csv_cell", "csv_filter", "count_matches", "config_value", "change_setting", "append_line", "read_out",
    "csv_to_json", "chain_two", "csv_group", "dedupe_lines",
)  # fmt: skip


@pytest.fixture
def encoder(base: LoadedModel) -> SessionEncoder:
    return encoder_of(base)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    data = tmp_path_factory.mktemp("taught")
    with Classroom(data / "data", cache=data / "cache") as opened:
        yield opened


def test_retold_sessions_of_many_families_can_be_lived_with_the_real_tools_and_pass_their_checks(
    room: Classroom,
) -> None:
    renamed = 0
    for id in [f"{family}/train/3/{number}" for family in FAMILIES for number in range(2)]:
        task = task_named(id)
        lesson = room.teach(task)
        assert lesson.passed
        lived = read_session(room.sessions / f"{lesson.session}.jsonl")
        for told in retellings(lived, 2, seed=1):
            assert told.contents is not None
            again = replace(
                task,
                row=replace(
                    task.row,
                    goal=replace(task.row.goal, text=_goal(told)["text"], check=_goal(told)["check"]),
                    files={path: content.decode() for path, content in told.contents.items()},
                    remembered=tuple(map(told.renaming.text, task.row.remembered)),
                ),
                earlier=tuple(map(told.renaming.text, task.earlier)),
                play=lambda _, told=told: _played(told.session),
            )
            second = room.teach(again)
            assert second.passed, f"{id} {told.renaming}: {second.reason}"
            relived = read_session(room.sessions / f"{second.session}.jsonl")
            assert _results(relived) == _results(told.session), f"{id} {told.renaming}"
            assert _start(relived) == _start(told.session)
            renamed += bool(told.renaming)
    assert renamed > 15, "most of these sessions have files that can be renamed"


def _goal(told: Retold) -> Mapping[str, Any]:
    return told.session.header["goal"]


def _played(session: Session) -> Play:
    for action in (event.data for event in session.events if event.kind == "action"):
        if action["tool"] == "finish":
            return Said(action["thought"], action["args"]["answer"])
        yield Act(action["thought"], action["tool"], action["args"])
    raise AssertionError("it never ends")


def _results(session: Session) -> list[Any]:
    return [
        [e.data[key] for key in ("status", "text", "files", "value")] for e in session.events if e.kind == "observation"
    ]


def _start(session: Session) -> list[Any]:
    return next(event.data["files"] for event in session.events if event.kind == "workspace")


SALES = "name,total\nAnders,12\nWendy,30\n"
READ = (act("read_file", "I read sales.csv first.", path="sales.csv"), finish("Anders has 12 in sales.csv"))


def lived(folder: Path, goal: str = "What is the total of Anders in sales.csv?", **more: Any) -> Session:
    check = {"all": [{"answer": {"matches": r"(?<!\w)Anders(?!\w)"}}, {"answer": {"contains": "sales.csv"}}]}
    more = {"check": check, "files": {"sales.csv": SALES}, **more}
    return session_of(folder, *more.pop("script", READ), goal=goal, **more)


def test_a_name_changes_everywhere_at_once(tmp_path: Path) -> None:
    session = lived(tmp_path)
    told = next(told for told in retellings(session, 8) if told.renaming.files and told.renaming.values)
    file, person = told.renaming.files["sales"], told.renaming.values["Anders"]
    text = json.dumps([event.data for event in told.session.events if event.kind != "session"])
    goal = _goal(told)
    for words in (text, goal["text"], json.dumps(goal["check"])):
        assert "sales" not in words
        assert "Anders" not in words
    assert f"{file}.csv" in goal["text"]
    assert person in goal["text"]
    assert (len(file), len(person)) == (5, 6)
    content = SALES.replace("Anders", person).encode()
    assert _start(told.session) == [
        {"path": f"{file}.csv", "sha256": sha256(content).hexdigest(), "size": len(content)}
    ]
    assert told.contents == {f"{file}.csv": content}
    assert not any(event.data["token_ids"] for event in told.session.events if event.kind == "action")


@pytest.mark.parametrize(
    "more",
    [
        {"files": {"sales.csv": SALES + "sales,1\n"}, "goal": "Anders?"},  # the letters stand elsewhere too
        {"goal": "What do the Sales of sales.csv say of Xu?"},
        {"script": [act("search_files", pattern="12", path=""), *READ[:1], act("read_file", path="none.csv"), READ[1]]},
        {"script": [act("run_python", code="import glob\nprint(glob.glob('sal*.csv'))"), *READ], "goal": "Say it."},
    ],
    ids=["in a file", "as a word", "beside an error", "by a pattern"],
)
def test_what_is_not_certain_keeps_its_name(tmp_path: Path, more: dict[str, Any]) -> None:
    session = lived(tmp_path, **more)
    assert all("sales" not in told.renaming.files for told in retellings(session, 6))


def test_values_keep_their_names_where_their_letters_count(tmp_path: Path) -> None:
    session = lived(tmp_path, "How many letters has Anders in sales.csv?")
    found = list(retellings(session, 6))
    assert found
    assert not any(told.renaming.values for told in found)


def test_without_its_files_a_session_is_only_reworded(tmp_path: Path) -> None:
    session = lived(tmp_path)
    for kept in (session.path.parent.parent / "objects").rglob("*"):
        if kept.is_file():
            kept.unlink()
    found = list(retellings(session, 3))
    assert found
    assert not any(told.renaming for told in found)
    assert all("Anders" in _goal(told)["text"] for told in found)


def test_a_held_out_goal_is_not_reached_by_other_words(tmp_path: Path, encoder: SessionEncoder) -> None:
    session = lived(tmp_path / "a")
    (told,) = retellings(session, 1)
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"id": "1", "goal": _goal(told)["text"], "check": _goal(told)["check"]}))
    augmenter = Augmenter(1)
    build_dataset([session], tmp_path / "set", encoder, held_out=read_held_out([suite]), augmenter=augmenter)
    assert augmenter.counts["held out"] == 1
    assert not any(example.variant for example in read_examples(tmp_path / "set"))
    again = Augmenter.of(augmenter.as_data())  # as a purge does, which has no suite
    build_dataset([session], tmp_path / "again", encoder, augmenter=again)
    assert not any(example.variant for example in read_examples(tmp_path / "again"))


def test_a_dataset_tells_its_sessions_again_and_keeps_them_together(
    tmp_path: Path, base: LoadedModel, encoder: SessionEncoder
) -> None:
    sessions = [lived(tmp_path / "a"), session_of(tmp_path / "b", finish("hallo"), goal="Sag hallo.")]
    manifest = build_dataset(sessions, tmp_path / "set", encoder, augmenter=Augmenter(3))
    examples = read_examples(tmp_path / "set")
    assert [example.variant for example in examples] == [0, 0, 1, 2, 3]
    assert {example.session for example in examples[2:]} == {sessions[0].id}
    assert len({example.goal for example in examples}) == 2
    assert len({example.ids for example in examples}) == 5
    assert manifest["augmented"]["counts"] == {"renamed": 3, "left as they are": 1}
    assert manifest["counts"]["used"] == 2
    assert manifest["counts"]["examples"] == 5
    kept, held = split_by_goal(examples, 0.5, 0)
    assert not {example.session for example in kept} & {example.session for example in held}
    build_dataset(sessions, tmp_path / "again", encoder, augmenter=Augmenter(3))
    assert read_examples(tmp_path / "again") == examples


def test_augment_learns_the_retold_goals_and_refuses_a_plain_dataset(
    tmp_path: Path, base: LoadedModel, encoder: SessionEncoder
) -> None:
    """Two trainings of the same steps: only the one on retold sessions gets better at a wording that neither saw."""
    session = lived(tmp_path / "a")
    build_dataset([session], tmp_path / "plain", encoder)
    build_dataset([session], tmp_path / "told", encoder, augmenter=Augmenter(12))
    plain, told = read_examples(tmp_path / "plain"), read_examples(tmp_path / "told")
    steps = {"rank": 8, "batch_tokens": 800, "learning_rate": 1e-2, "evaluations": 0, "threads": 1}
    with pytest.raises(WhetstoneError, match="dataset build --augment"):
        train(Base.of(base), plain, Recipe(objective="augment", **steps), tmp_path / "x")  # pyright: ignore
    unseen = [example for example in told[9:] if example.variant > 9]
    seen = [example for example in told if example.variant <= 9]
    losses: dict[str, float] = {}
    for name, data, objective in (("plain", plain * len(seen), "sft"), ("told", seen, "augment")):
        recipe = Recipe(objective=objective, epochs=6, **steps)  # pyright: ignore
        train(Base.of(base), data, recipe, tmp_path / name)
        trained = load_model(base.spec, adapter=tmp_path / name, dtype="fp32", cache=tmp_path / "cache")
        losses[name] = _loss(trained, unseen)
    assert losses["told"] < losses["plain"] - 0.1


def _loss(trained: LoadedModel, examples: list[Any]) -> float:
    """Mean -log p of what is learned in the examples."""
    from agent.engine.network import Row

    total = count = 0.0
    for example in examples:
        cache = trained.model.new_cache()
        logits = trained.model.forward([Row(cache, list(example.ids[:-1]), wanted=len(example.ids) - 1)])
        scores = logits.log_softmax(-1)
        places = [place for place in range(1, len(example.ids)) if example.loss[place]]
        total -= sum(float(scores[place - 1, example.ids[place]]) for place in places)
        count += len(places)
    return total / count


def test_a_purge_takes_out_the_retold_sessions_and_trains_on_those_of_the_others(
    tmp_path: Path, base: LoadedModel, encoder: SessionEncoder
) -> None:
    sessions = [lived(tmp_path / "a"), lived(tmp_path / "b", "Tell me the total of Wendy in sales.csv.")]
    manifest = build_dataset(sessions, tmp_path / "set", encoder, augmenter=Augmenter(2))
    recipe = Recipe(objective="augment", rank=4, epochs=1, dtype="fp32", threads=1)
    told = {"augmented": manifest["augmented"]}
    trained = train(Base.of(base), read_examples(tmp_path / "set"), recipe, tmp_path / "adapter", **told)
    registry = Registry(tmp_path / "adapters")
    registry.add(trained.folder)
    (done,) = purge(registry, sessions[0].id, base=base, sources=sessions, out=tmp_path / "out")
    rebuilt = registry.find(done.rebuilt)
    assert rebuilt.sessions == {sessions[1].id}
    (examples,) = [read_examples(path.parent) for path in (tmp_path / "out").rglob("examples.jsonl")]
    assert [example.variant for example in examples] == [0, 1, 2]
