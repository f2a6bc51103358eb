"""A served model: every spelling of a schema, every way a server can fail, and the same actions as the model itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.batch import read_results, run_rows
from agent.doctor import Finding, examine
from agent.goalfile import GoalRow
from agent.journal import find_session, read_session
from agent.policies.local import LocalPolicy
from agent.policies.served import ServedPolicy
from agent.policies.server import ModelServer, split_address
from agent.policies.structured import SPELLINGS
from agent.runtime import resume_session, resume_settings, run_goal
from agent.settings import Settings
from agent.types import Budget, Completion, Goal, Message, Prompt, WhetstoneError
from tests.faulty_proxy import FaultyProxy
from tests.model_server import KEY, ServerProcess, running
from tests.models import build_model, tool_schema
from tests.sessions import Recorder, settings_for

PROMPT = Prompt((Message("system", "You work in a folder.", "system"), Message("user", "Read the file.", "goal")))
OPTIONS = {"model__dtype": "fp32", "sampling__temperature": "0"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerProcess]:
    with running(model) as process:
        yield process


def settings(folder: Path, address: str, **flags: Any) -> Settings:
    return settings_for(folder, [], model__name=address, **{**OPTIONS, **flags})


def act(policy: Any, **limits: Any) -> Completion:
    asked: dict[str, Any] = {"step": 1, "max_tokens": 120, "deadline": time.monotonic() + 60}
    told: list[str] = []
    done = policy.act(PROMPT, tool_schema(), **{**asked, "on_text": told.append, "cancelled": lambda: False, **limits})
    if "on_text" not in limits and done.finish == "stop":
        assert "".join(told) == done.text
    return done


def test_a_served_model_acts_as_the_model_itself_does(tmp_path: Path, model: Path, server: ServerProcess) -> None:
    served = ServedPolicy.open(settings(tmp_path, server.address))
    assert served.describe() == {
        "name": f"{server.address}#tiny", "kind": "served", "adapter": None, "structured": "response_format",
        "sampling": {"temperature": 0.0, "top_p": 1.0}, "seed": 0,
    }  # fmt: skip
    assert served.context_tokens == 3000
    local = LocalPolicy.open(settings(tmp_path, str(model)), "alone")
    there, here = act(served), act(local)
    assert there.text == here.text
    assert (there.usage.prompt, there.usage.generated) == (here.usage.prompt, len(here.token_ids))


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if name != "response_format"])
def test_the_spelling_that_a_server_obeys_is_found(tmp_path: Path, server: ServerProcess, spelling: str) -> None:
    policy = ServedPolicy.open(settings(tmp_path, server.address_for(f"{spelling}/v1")))
    assert policy.describe()["structured"] == spelling
    if spelling == "json_schema":  # whose grammar does not know minLength: the request is sent without it
        schema = {"anyOf": [{"type": "string", "minLength": 2}]}
        done = policy.act(
            PROMPT, schema, step=1, max_tokens=60, deadline=time.monotonic() + 60, on_text=print,
            cancelled=lambda: False,
        )  # fmt: skip
        assert done.text.startswith('"')
    assert set(json.loads(act(policy).text)) == {"thought", "tool", "args"}


@pytest.mark.parametrize("picky", ["plain", "new"])
def test_parameters_that_a_server_refuses_are_left_out(tmp_path: Path, server: ServerProcess, picky: str) -> None:
    policy = ServedPolicy.open(settings(tmp_path, server.address_for(f"{picky}/v1")))
    assert policy.describe()["structured"] == "none"
    assert act(policy).finish == "stop"


def test_without_any_spelling_invalid_actions_come_back_as_observations(tmp_path: Path, server: ServerProcess) -> None:
    chosen = settings(tmp_path, server.address_for("nothing/v1"), budget__steps=3)
    goal = Goal("Do it.", budget=chosen.goal_budget())
    end = run_goal(chosen, goal, view=Recorder(), asker=None)
    events = read_session(find_session(chosen.sessions_folder())).events
    assert events[0].data["policy"]["structured"] == "none"
    assert [e.data["status"] for e in events if e.kind == "observation"] == ["invalid"] * 3
    assert end.data["ending"] in ("out_of_steps", "stuck")


@pytest.mark.parametrize(
    "faults",
    [
        [("status", 500), ("status", 503), ("status", 502)],
        [("reset", 0), ("reset", 0)],
        [("drop", 90), ("drop", 300)],
        [("retry_after", 1)],
        [("retry_date", 3)],
        [("slow", 0.5)],
    ],
    ids=["5xx", "reset", "dropped", "429", "429-date", "slow"],
)
def test_what_goes_away_by_itself_is_tried_again(
    tmp_path: Path, server: ServerProcess, faults: list[tuple[str, float]]
) -> None:
    wanted = act(ServedPolicy.open(settings(tmp_path, server.address)))
    with FaultyProxy(server.port) as proxy:
        policy = ServedPolicy.open(settings(tmp_path, proxy.address))
        proxy.faults.extend(faults)
        before = len(proxy.requests)
        done = act(policy)
        assert done.text == wanted.text
        tries = proxy.requests[before:]
        assert len(tries) == len(faults) + (faults[0][0] != "slow")
        if faults[0][0] == "retry_after":
            assert tries[1] - tries[0] >= 1.0
        if faults[0][0] == "retry_date":  # whose seconds are whole
            assert tries[1] - tries[0] >= 1.9
        if faults[0][0] == "drop":  # what was generated and lost counts against the budget
            assert done.usage.generated > wanted.usage.generated
        else:
            assert done.usage == wanted.usage


def test_a_server_that_falls_silent_is_asked_again(
    tmp_path: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy(server.port) as proxy:
        policy = ServedPolicy.open(settings(tmp_path, proxy.address))
        wanted = act(policy)
        monkeypatch.setattr("agent.policies.wire.READ_SECONDS", 4.0)
        proxy.faults.append(("slow", 30.0))
        before, began = len(proxy.requests), time.monotonic()
        assert act(policy).text == wanted.text
        assert len(proxy.requests) == before + 2
        assert 4.0 <= time.monotonic() - began < 25


def test_a_deadline_ends_waiting_and_so_does_the_user(tmp_path: Path, server: ServerProcess) -> None:
    with FaultyProxy(server.port) as proxy:
        policy = ServedPolicy.open(settings(tmp_path, proxy.address))
        proxy.faults.extend([("status", 503)] * 50)
        began = time.monotonic()
        assert act(policy, deadline=began + 1.0).finish == "time"
        assert act(policy, cancelled=lambda: time.monotonic() > began + 2.0).finish == "cancelled"
        assert time.monotonic() - began < 10
        proxy.faults.clear()
        proxy.faults.append(("slow", 5.0))
        began = time.monotonic()
        assert act(policy, deadline=began + 0.5).finish == "time"
        assert time.monotonic() - began < 4
        assert act(policy, max_tokens=5).finish == "length"


def test_patience_ends_with_a_sentence(server: ServerProcess) -> None:
    with FaultyProxy(server.port) as proxy:
        connected = ModelServer.connect(proxy.address, patience=1.5)
        for faults, said in [([("status", 503)] * 50, "status 503"), ([("retry_after", 3600)], "status 429")]:
            proxy.faults.extend(faults)
            with pytest.raises(WhetstoneError, match=rf"did not answer for .*{said}.*start it again"):
                connected.chat([{"role": "user", "content": "x"}], schema=None, max_tokens=5)
            proxy.faults.clear()
        connected.close()


def test_what_others_begin_to_ask_is_no_sign_of_life(server: ServerProcess) -> None:
    asked: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
    with FaultyProxy(server.port) as proxy, ThreadPoolExecutor(1) as threads:
        connected = ModelServer.connect(proxy.address, patience=2.0)
        proxy.faults.extend([("status", 503)] * 1000)
        began = time.monotonic()
        patient = threads.submit(connected.chat, asked, schema=None, max_tokens=5)
        while not patient.done() and time.monotonic() < began + 20:
            connected.chat(asked, schema=None, max_tokens=5, deadline=time.monotonic() + 0.2)
        assert time.monotonic() < began + 15
        with pytest.raises(WhetstoneError, match="did not answer for"):
            patient.result(30)
        connected.close()


def test_addresses_keys_and_wrong_servers_are_one_sentence(
    tmp_path: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split_address("http://host:1/v1/#a/b") == ("http://host:1/v1", "a/b")
    for address, said in [
        ("http://", "is no address"),
        ("http://host:99999/v1", "is no address"),
        ("http://me:secret@host/v1", "put the key into MODEL_API_KEY"),
        ("http://host/v1?key=1", "has a query"),
    ]:
        with pytest.raises(WhetstoneError, match=said):
            split_address(address)
    with pytest.raises(WhetstoneError, match="no model server answers"):
        ModelServer.connect("http://127.0.0.1:9/v1", patience=0.1)
    with pytest.raises(WhetstoneError, match="status 404"):
        ModelServer.connect(server.address_for("v2"))
    with pytest.raises(WhetstoneError, match=r"wants a key .*set MODEL_API_KEY"):
        ModelServer.connect(server.address_for("locked/v1"))
    monkeypatch.setenv("MODEL_API_KEY", KEY)
    chosen = settings(tmp_path, server.address_for("locked/v1"), budget__steps=1)
    run_goal(chosen, Goal("x", budget=chosen.goal_budget()), view=Recorder(), asker=None)
    assert KEY.encode() not in find_session(chosen.sessions_folder()).read_bytes()


def test_a_batch_survives_the_restart_of_its_server(tmp_path: Path, model: Path) -> None:
    budget = Budget(steps=2, tokens=200, action_tokens=60)
    rows = [GoalRow(f"g{n}", Goal(f"Read file {n}.", budget=budget)) for n in range(8)]
    process = ServerProcess(model)
    process.wait()

    def restart(requests: int) -> None:
        if requests == 6:
            process.kill()
            threading.Timer(1.0, process.start).start()

    try:
        with FaultyProxy(process.port, on_request=restart) as proxy:
            chosen = settings(tmp_path, proxy.address)
            results = run_rows(chosen, rows, out=tmp_path / "out", in_flight=4)
    finally:
        process.kill()
    assert [r.id for r in results] == [row.id for row in rows]
    assert {r.ending for r in results} <= {"out_of_steps", "out_of_tokens", "finished", "stuck"}
    assert all(r.valid + r.invalid >= 1 for r in results)
    assert len(read_results(tmp_path / "out")) == 8


def test_a_resumed_session_notices_another_model(tmp_path: Path, server: ServerProcess) -> None:
    chosen = settings(tmp_path, server.address, budget__steps=1)
    run_goal(chosen, Goal("x", budget=chosen.goal_budget()), view=Recorder(), asker=None)
    path = find_session(chosen.sessions_folder())
    other = resume_settings(path, {"model.name": f"{server.address}#other", "budget.steps": 2})
    with pytest.raises(WhetstoneError, match="name was"):
        resume_session(other, path, force=False, view=Recorder(), asker=None)


def test_doctor_asks_the_server(tmp_path: Path, server: ServerProcess) -> None:
    def finding(address: str) -> Finding:
        return next(f for f in examine(settings(tmp_path, address)).findings if f.part == "model")

    good, loose = finding(server.address), finding(server.address_for("nothing/v1"))
    assert (good.status, good.text) == (
        "ok", f"{server.address}#tiny answers and obeys a schema (response_format), context 3000 tokens",
    )  # fmt: skip
    assert (loose.status, "obeys no schema" in loose.text) == ("warn", True)
    assert finding("http://127.0.0.1:9/v1").status == "fail"
