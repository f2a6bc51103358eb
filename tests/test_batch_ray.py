"""Goals on a Ray cluster: the same results as here, and none lost when a node dies."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Result, Stopping, read_results, run_rows
from agent.batch.engines import engine_named
from agent.batch.ray_engine import ray_engine
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.types import Budget, Event, Goal, WhetstoneError
from tests.command import Place
from tests.models import build_model
from tests.sessions import act, finish, settings_for

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
PLUGIN = {"tools__plugins": ["tests.side_effects:append_line"]}
LINES = 30
APPENDS = [*(act("append_line", line=f"line {n}") for n in range(LINES)), finish()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        patch.setenv("RAY_ADDRESS", str(found.address))
        yield found
        found.shutdown()


@pytest.fixture
def second(cluster: Any) -> Iterator[Any]:
    """The second node of the cluster, for one test."""
    node = _added(cluster)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def _added(cluster: Any, tries: int = 3) -> Any:
    """A new node. Ray gives a node 30 seconds to start, which a busy machine may not keep to."""
    for _ in range(tries - 1):
        try:
            return cluster.add_node(**NODE)
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return cluster.add_node(**NODE)


def decoded(results: list[Result], out: Path) -> list[list[Any]]:
    return [[e.data["token_ids"] for e in read_session(out / r.journal).events if e.kind == "action"] for r in results]


@pytest.mark.parametrize("share_disk", [True, False], ids=["shared", "apart"])
def test_results_are_those_of_a_local_run(tmp_path: Path, second: Any, share_disk: bool) -> None:
    model = build_model(tmp_path / "model")
    options: dict[str, Any] = {"model__name": str(model), "model__dtype": "fp32", "sampling__temperature": "1.0"}
    settings = settings_for(tmp_path, [], **options)
    budget = Budget(steps=2, tokens=120, action_tokens=60)
    (tmp_path / "material/deep").mkdir(parents=True)
    (tmp_path / "material/deep/a.txt").write_text("a")
    rows = [
        GoalRow(f"g{n}", Goal(f"Read file {n}.", budget=budget), workspace=tmp_path / "material", files={"b.txt": "b"})
        for n in range(6)
    ]
    there = run_rows(settings, rows, out=tmp_path / "ray", in_flight=2, engine=ray_engine("", share_disk=share_disk))
    here = run_rows(settings, rows, out=tmp_path / "here", in_flight=2)
    assert decoded(there, tmp_path / "ray") == decoded(here, tmp_path / "here")
    assert [(r.id, r.ending, r.steps, r.tokens) for r in there] == [(r.id, r.ending, r.steps, r.tokens) for r in here]
    for row in rows:
        assert (tmp_path / "ray/workspaces" / row.id / "deep/a.txt").read_text() == "a"
    workspaces = {read_session(tmp_path / "ray" / r.journal).header["workspace"] for r in there}
    assert all(w.startswith(str(tmp_path / "ray")) for w in workspaces) == share_disk
    # The same command, without Ray, has nothing left to do.
    assert run_rows(settings, rows, out=tmp_path / "ray", in_flight=2) == there


@pytest.mark.parametrize("share_disk", [True, False], ids=["shared", "apart"])
def test_a_lost_node_loses_no_goal(tmp_path: Path, cluster: Any, second: Any, share_disk: bool) -> None:
    settings = settings_for(tmp_path, APPENDS, **PLUGIN)
    rows = [
        GoalRow(f"g{n}", Goal("x", check={"file": "log.txt", "contains": "line"}, budget=Budget(steps=LINES + 5)))
        for n in range(24)
    ]
    nodes: dict[str, str] = {}
    sent: list[str] = []

    def note(row: GoalRow, event: Event) -> None:
        sent.append(row.id)
        nodes[row.id] = event.data["node"]

    def kill(result: Result) -> None:
        if len(read_results(tmp_path / "out")) == 8:
            cluster.remove_node(second, allow_graceful=False)

    results = run_rows(
        settings,
        rows,
        out=tmp_path / "out",
        in_flight=3,
        engine=ray_engine("", share_disk=share_disk),
        on_event=note,
        on_result=kill,
    )
    assert [r.id for r in results] == [row.id for row in rows]
    assert all(r.succeeded for r in results), [r.reason for r in results if not r.succeeded]
    assert len(sent) > len(rows)  # what the lost node had was sent again
    assert len(set(nodes.values())) == 2
    begun = [json.loads(line) for line in (tmp_path / "out/started.jsonl").read_text().splitlines()]
    assert [r.session for r in results] == [{b["id"]: b["session"] for b in begun}[r.id] for r in results]
    assert len(begun) == len(rows)
    for result in results:
        lines = (tmp_path / "out/workspaces" / result.id / "log.txt").read_text().splitlines()
        assert len(lines) == len(set(lines)), f"{result.id} did something twice"
        assert len(lines) >= LINES - 1


def test_a_node_that_loads_for_long_holds_up_nobody_and_is_put_to_work(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.batch.ray_engine.LOOK_SECONDS", 0.0)
    model = build_model(tmp_path / "model")
    config, pipe = model / "config.json", tmp_path / "pipe"
    said = config.read_text()
    settings = settings_for(tmp_path, [], model__name=str(model), model__dtype="fp32", sampling__temperature="1.0")
    rows = [GoalRow(f"g{n}", Goal(f"Read {n}.", budget=Budget(steps=2, tokens=120))) for n in range(1000)]
    loading, enough, stopping = threading.Event(), threading.Event(), Stopping()
    meanwhile: list[str] = []
    held_up: list[bool] = []
    nodes: set[str] = set()
    late: list[Any] = []

    def load_slowly() -> None:
        with open(pipe, "w") as writing:  # returns when the late node reads its model's config, which then waits here
            loading.set()
            held_up.append(not enough.wait(60))
            config.unlink()
            config.write_text(said)
            writing.write(said)

    def come_late(result: Result) -> None:
        if not late:
            os.mkfifo(pipe)
            config.unlink()
            config.symlink_to(pipe)
            threading.Thread(target=load_slowly, daemon=True).start()
            late.append(_added(cluster))
            cluster.wait_for_nodes()
        elif loading.is_set():
            meanwhile.append(result.id)
            if len(meanwhile) == 3:
                enough.set()

    def note(row: GoalRow, event: Event) -> None:
        nodes.add(event.data["node"])
        if len(nodes) == 2:
            stopping.drain()

    try:
        results = run_rows(
            settings, rows, out=tmp_path / "out", in_flight=1, engine=ray_engine(""), on_event=note,
            on_result=come_late, stopping=stopping,
        )  # fmt: skip
    finally:
        for node in late:
            cluster.remove_node(node)
    assert held_up == [False]
    assert len(nodes) == 2
    assert "error" not in {r.ending for r in results}


def test_a_session_that_was_cut_here_goes_on_there(tmp_path: Path, cluster: Any) -> None:
    settings = settings_for(tmp_path, APPENDS[:5], **PLUGIN)
    row = GoalRow("g", Goal("x", budget=Budget(steps=LINES + 5)))
    (cut,) = run_rows(settings, [row], out=tmp_path / "out")
    assert cut.ending == "error"  # the script was too short
    settings = settings_for(tmp_path, APPENDS, **PLUGIN)
    (done,) = run_rows(settings, [row], out=tmp_path / "out", engine=ray_engine("", share_disk=False))
    assert (done.ending, done.session) == ("finished", cut.session)
    assert (tmp_path / "out/workspaces/g/log.txt").read_text().split("\n")[:-1] == [f"line {n}" for n in range(LINES)]


def test_the_command_runs_on_the_cluster(tmp_path: Path, cluster: Any) -> None:
    place = Place(tmp_path, [act("write_file", path="a.txt", content="a"), finish()])
    (place.folder / "goals.jsonl").write_text('{"goal": "x", "check": {"file": "a.txt", "exists": true}}\n' * 3)
    ran = place.run("batch", "goals.jsonl", "-o", "out", "--engine", "ray", env={"RAY_ADDRESS": cluster.address})
    assert (ran.returncode, ran.stdout) == (0, "3 of 3 goals succeeded: out/report.html\n"), ran.stderr


def test_what_a_node_cannot_do_is_one_sentence(tmp_path: Path, cluster: Any) -> None:
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    settings = settings_for(tmp_path, [], model__name=str(tmp_path / "model/nowhere"))
    with pytest.raises(WhetstoneError, match="there is no model"):
        run_rows(settings, [GoalRow("a", Goal("x"))], out=tmp_path / "out", engine=engine_named("ray"))
    with pytest.raises(WhetstoneError, match="there is no engine 'rey'"):
        engine_named("rey")
