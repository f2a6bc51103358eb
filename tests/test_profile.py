"""Where the time went, told from the journal; and how long a start takes, told by starting."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agent.profile import print_profile, profile
from agent.timings import time_start
from agent.types import Event
from tests.command import Place, act
from tests.models import build_model
from tests.sessions import settings_for


def event(seq: int, kind: str, time: float, **data: object) -> Event:
    return Event(seq, kind, time, data)


def action(seq: int, time: float, tool: str, **milliseconds: float) -> Event:
    usage = {"prompt": 100, "cached": 40, "prefilled": 60, "forced": 5, "sampled": 10, "drafted": 4, "accepted": 3}
    return event(seq, "action", time, step=1, tool=tool, milliseconds=milliseconds, usage=usage)


def test_the_parts_of_a_profile_add_up_to_the_time_of_its_runs() -> None:
    events = [
        event(0, "session", 100.0, startup={"model": 2.0}),
        action(1, 104.0, "read_file", prefill=3000, decode=500, total=3600),
        event(2, "observation", 105.0, step=1, seconds=0.75),
        event(3, "resume", 900.0),
        action(4, 902.0, "run_python", prefill=100, decode=1500, mask=50),
        event(5, "observation", 903.0, step=2, seconds=0.5),
        event(6, "end", 903.5),
    ]
    found = profile(events)
    assert found.steps == 2
    assert found.seconds == pytest.approx(5.0 + 3.5), "the time between two runs was nobody's"
    assert sum(found.parts.values()) == pytest.approx(found.seconds)
    assert found.tools == {"read_file": 0.75, "run_python": 0.5}
    assert found.tokens["prefilled"] == 120
    printed = io.StringIO()
    print_profile(found, printed)
    assert "8.50 s" in printed.getvalue()
    assert "8 guessed ahead, 6 of them right" in printed.getvalue()


def test_a_run_tells_where_its_time_went_and_show_tells_it_again(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("finish", "Done.", answer="42")])
    ran = place.run("--goal", "Say 42", "-y", "--profile")
    assert ran.returncode == 0
    assert ran.stdout == "42\n"
    assert "where the time went: 1 step," in ran.stderr
    shown = place.run("show", "--profile")
    assert shown.stdout.strip() in ran.stderr
    assert json.loads(place.run("show", "--profile", "--json").stdout)["steps"] == 1


def test_a_start_is_timed_by_starting_and_leaves_no_session(tmp_path: Path) -> None:
    model = build_model(tmp_path / "model")
    settings = settings_for(tmp_path, [], model__name=str(model), model__dtype="fp32", model__threads=1)
    found = time_start(settings)
    assert found.first_token > 0
    assert found.parts.keys() == {"model", "sandbox", "memory"}
    assert found.parts["model"] <= found.opened
    assert found.total >= found.opened + found.first_token
    assert not settings.sessions_folder().exists()
