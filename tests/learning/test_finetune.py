"""The agent can ask for training; everything else is out of its hands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from agent.goalfile import read_goals
from agent.journal import find_session, read_session
from agent.learning.adapters import Registry
from agent.learning.heldout import rows_digest
from agent.learning.requests import LEAST_SESSIONS, TrainingRequests
from agent.policies.scripted import ScriptedPolicy
from agent.runtime import run_goal
from agent.settings import Settings
from agent.types import Event, Goal
from tests.learning.test_dataset import session_of
from tests.models import build_model
from tests.sessions import Recorder, act, finish, settings_for
from tools.finetune import fine_tune_tool


def settings(folder: Path, model: Path | str, **flags: object) -> Settings:
    return settings_for(folder, [], model__name=str(model), learning__fine_tune=True, **flags)


def ask(folder: Path, chosen: Settings) -> list[Event]:
    """A session in which the agent asks for training and then finishes."""
    script = [act("fine_tune", reason="I copy names wrongly."), finish("asked")]
    end = run_goal(chosen, Goal("Do it."), view=Recorder(), asker=None, policy=lambda _: ScriptedPolicy(script))
    return list(read_session(find_session(chosen.sessions_folder(), end.data["session"])).events)


def answer(events: list[Event]) -> tuple[str, str]:
    first = next(event for event in events if event.kind == "observation")
    return first.data["status"], first.data["text"]


def wait_for_end(requests: TrainingRequests, seconds: float = 240) -> dict[str, object]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        last = requests.history()[-1]
        if last["event"] in ("done", "failed"):
            return last
        time.sleep(0.2)
    raise AssertionError(requests.history())


def test_asking_starts_a_process_that_leaves_a_candidate_and_promotes_nothing(tmp_path: Path) -> None:
    for n in range(LEAST_SESSIONS):
        session_of(tmp_path, finish(f"word{n}"), goal=f"Say word{n}.")
    suite = tmp_path / "suite.jsonl"
    suite.write_text(
        json.dumps({"id": "held", "goal": "Say nothing.", "check": {"answer": {"equals": "nothing"}}}) + "\n"
    )
    chosen = settings(tmp_path, build_model(tmp_path / "tiny"), learning__held_out=[str(suite)])
    status, text = answer(ask(tmp_path, chosen))
    assert status == "ok"
    assert "leaves a candidate adapter" in text
    assert "not used unless the gate passes it and a person promotes it" in text

    requests = TrainingRequests(chosen)
    assert answer(ask(tmp_path, chosen)) == (
        "error", "Training was asked for already; the next request is possible in 24 hours. Go on without it.",
    )  # fmt: skip
    done = wait_for_end(requests)
    assert done["event"] == "done", done
    (entry,) = Registry(chosen.adapters_folder()).entries()
    assert (entry.id, entry.state) == (done["adapter"], "candidate")
    assert len(entry.sessions) == LEAST_SESSIONS
    assert "planted" in entry.card
    assert entry.card["held_out"] == [rows_digest(read_goals(suite))]


def test_too_few_verified_sessions_are_said_in_the_log(tmp_path: Path) -> None:
    session_of(tmp_path, finish("one"), goal="Say one.")
    chosen = settings(tmp_path, build_model(tmp_path / "tiny"))
    ask(tmp_path, chosen)
    done = wait_for_end(TrainingRequests(chosen))
    assert "too few to learn from" in str(done["error"])
    assert Registry(chosen.adapters_folder()).entries() == []


def test_the_process_cannot_take_more_memory_or_time_than_it_is_given(tmp_path: Path) -> None:
    code = (
        "import sys; from agent.learning.requests import limit_this_process; from agent.settings import load_settings;"
        "limit_this_process(load_settings({'learning.memory_bytes': '300MB', 'learning.minutes': '0.02'}));"
    )
    greedy = subprocess.run([sys.executable, "-c", f"{code} x = bytearray(2**30)"], capture_output=True, text=True)
    assert "MemoryError" in greedy.stderr
    slow = subprocess.run([sys.executable, "-c", f"{code} import time; time.sleep(60)"], timeout=30)
    assert slow.returncode == -14  # SIGALRM


def test_the_tool_takes_a_reason_and_nothing_else() -> None:
    tool = fine_tune_tool(lambda _session, _reason: "no")
    assert list(tool.schema["properties"]) == ["reason"]
    assert tool.schema["additionalProperties"] is False


def test_a_person_is_asked_unless_it_is_allowed(tmp_path: Path) -> None:
    chosen = settings(tmp_path, build_model(tmp_path / "tiny"), approval__mode="ask")
    events = ask(tmp_path, chosen)  # nobody is there to be asked
    assert answer(events)[0] == "refused"
    assert TrainingRequests(chosen).history() == []
    allowed = settings(tmp_path, "scripted:x", approval__mode="ask", approval__allow=["fine_tune"])
    assert answer(ask(tmp_path, allowed)) == (
        "error", "Training is not possible: scripted:x is not a model on this machine.",
    )  # fmt: skip


def test_the_tool_is_not_there_unless_a_person_wants_it(tmp_path: Path) -> None:
    chosen = settings_for(tmp_path, [act("fine_tune", reason="x"), finish()])
    end = run_goal(chosen, Goal("Do it."), view=Recorder(), asker=None)
    events = read_session(find_session(chosen.sessions_folder(), end.data["session"])).events
    assert "fine_tune" not in json.dumps(next(event.data for event in events if event.kind == "session")["tools"])
    assert answer(list(events))[0] == "invalid"
