"""Views without a cursor: complete, one line a fact, and safe to look at."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest

from agent.types import Event, WhetstoneError
from agent.view.lines import answer_text
from agent.view.plain import JsonView, PlainView, QuietView
from agent.view.show import show_session, show_step
from tests.shown_session import SESSION, Session, hostile_session, whole_session


def plain(events: list[Event]) -> str:
    out = io.StringIO()
    view = PlainView(out)
    for event in events:
        view.text("{")
        view.event(event)
    view.close()
    return out.getvalue()


def shown(events: list[Event], step: int | None = None, *, as_json: bool = False) -> str:
    out = io.StringIO()
    if step is None:
        show_session(events, ["the last line is torn"], out, as_json=as_json)
    else:
        show_step(events, step, out, as_json=as_json)
    return out.getvalue()


def controls(text: str) -> list[str]:
    return [c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs"}]


def test_plain_lines_tell_the_whole_session() -> None:
    lines = plain(whole_session()).splitlines()
    for line in (
        f"session {SESSION}: Add up the prices in prices.csv",
        "[1/20] recalled note (model, session 20261121-090000-000001, step 3, 2 days ago): "
        "prices.csv has a header line and the price in its second column",
        "[1/20] thought: I should look at the file first.",
        "[1/20] read_file prices.csv",
        "[1/20] ok: item,price | bolt,12 | nut,30 (4.0 s, 42 of 8000 tokens)",
        "[2/20] allowed by you",
        "[3/20] write_file sum.txt",
        "[4/20] ok: answer: The sum is 42. (4.0 s, 168 of 8000 tokens)",
        "finished (4 steps, 168 tokens, 14 s)",
        "check passed: sum.txt contains '42'",
        "changed: sum.txt",
        f"look closer: python -m agent show {SESSION}",
    ):
        assert line in lines, line


def test_plain_lines_and_show_are_safe_to_look_at() -> None:
    events = hostile_session()
    assert controls(plain(events)) == []
    assert controls(shown(events)) == []
    for step in (1, 2, 3, 4):
        text = shown(events, step)
        assert controls(text) == []
        assert "[/nope][bold]" in text


def test_json_lines_hold_every_event_and_the_last_is_the_end() -> None:
    for events in (whole_session(), hostile_session()):
        out = io.StringIO()
        view = JsonView(out)
        for event in events:
            view.event(event)
        assert out.getvalue().isascii()
        objects = [json.loads(line) for line in out.getvalue().splitlines()]
        assert [o["event"] for o in objects] == [event.kind for event in events]
        assert all(o.items() >= event.data.items() for o, event in zip(objects, events, strict=True))
        assert objects[-1]["event"] == "end"
        assert {"ending", "answer", "check", "session", "steps", "tokens", "seconds"} <= objects[-1].keys()


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    view = QuietView()
    for event in whole_session():
        view.event(event)
    view.close()
    assert capfd.readouterr() == ("", "")


def test_show_says_what_is_wrong_with_the_file_and_gives_the_answer() -> None:
    text = shown(whole_session())
    assert text.startswith("note: the last line is torn")
    assert "answer:\nThe sum is 42." in text
    assert "no end was logged" in shown(whole_session()[:-3])


def test_show_step_leaves_nothing_out() -> None:
    text = shown(whole_session(), 2)
    for part in (
        "rows = list(csv.DictReader(file))",
        "stdout:\n    42\n    exit status 0",
        "tokens: prompt 400 (cached 300, prefilled 100), generated 42 (forced 12, sampled 30), ended by stop",
        "mean log-probability of the sampled tokens: -1.000",
        "milliseconds: prefill 80.0, decode 900.5, total 990.0",
        "d" * 64,
    ):
        assert part in text, part
    assert "I should look at the file" not in text
    assert "score 0.812 (dense 0.700)" in shown(whole_session(), 1)


def test_show_step_as_json_is_the_events_of_that_step() -> None:
    objects = [json.loads(line) for line in shown(whole_session(), 2, as_json=True).splitlines()]
    assert [o["event"] for o in objects] == ["action", "approval", "observation"]
    assert all(o["step"] == 2 for o in objects)
    assert len(shown(whole_session(), as_json=True).splitlines()) == len(whole_session())


def test_a_step_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(WhetstoneError, match="steps 1 to 4"):
        shown(whole_session(), 9)
    with pytest.raises(WhetstoneError, match="no step"):
        shown(Session().events, 1)


def test_an_answer_that_is_not_text_is_json_that_parses() -> None:
    assert answer_text({"sum": 42, "city": "Köln"}) == '{"sum": 42, "city": "Köln"}'
    hidden = {"a": "\u202e\x9b"}
    assert json.loads(answer_text(hidden)) == hidden
    assert controls(answer_text(hidden)) == []
    assert answer_text("\x1b[2Jplain") == "plain"
