"""Budgets count over the whole session, and the no-progress brake cannot be fooled."""

import time

import pytest

from agent.brakes import BudgetClock, failed_actions, fold, nudge_text
from agent.types import Budget, Ending
from tests.events import EventLog


def strikes(log: EventLog) -> list[str | None]:
    """The brake's answer to every observation of `log`, with the nudge logged where the loop would."""
    _, brake = fold([])
    said: list[str | None] = []
    for event in list(log):
        reason = brake.feed(event)
        if event.kind == "observation":
            said.append(reason)
            if reason and not brake.nudged:
                brake.feed(log.add("nudge", step=event.data["step"], text=nudge_text(reason), reason=reason))
        if brake.stuck:
            said.append("STUCK")
            break
    return said


def test_the_same_action_with_the_same_result_is_nudged_then_stuck() -> None:
    log = EventLog()
    for _ in range(8):
        log.step()
    said = strikes(log)
    assert said[:2] == [None, None]
    assert "3 times" in str(said[2])
    assert said[-1] == "STUCK"
    assert len(said) == 6


def test_alternating_between_two_useless_actions_is_caught() -> None:
    log = EventLog()
    for number in range(20):
        log.step(args={"path": "a.txt" if number % 2 else "b.txt"})
    assert strikes(log)[-1] == "STUCK"


def test_a_compaction_does_not_reset_the_brake() -> None:
    log = EventLog()
    for _ in range(2):
        log.step()
    log.add("compaction", step=3, steps=[1, 2], dropped=[], tokens_before=9, tokens_after=1)
    log.step()
    assert "3 times" in str(strikes(log)[-1])


def test_a_result_with_a_clock_in_it_does_not_hide_repetition() -> None:
    log = EventLog()
    for number in range(6):
        log.step("run_python", {"code": "print(time.time())"}, result=f"{number}.123")
    assert "6 times" in str(strikes(log)[-1])


def test_errors_in_a_row_are_no_progress_and_one_success_clears_them() -> None:
    log = EventLog()
    for number in range(3):
        log.step(args={"path": f"{number}"}, status="error", result=f"no file {number}")
    log.step(args={"path": "x"}, result="found")
    for number in range(4):
        log.step(args={"path": f"y{number}"}, status="error", result=f"no file y{number}")
    said = strikes(log)
    assert said[:7] == [None] * 7
    assert "4 results in a row" in str(said[7])


def test_empty_thoughts_are_no_progress() -> None:
    log = EventLog()
    for number in range(4):
        log.step(args={"path": f"{number}"}, result=f"{number}", thought=" ")
    assert "thoughts" in str(strikes(log)[-1])


def test_different_work_is_never_stopped() -> None:
    log = EventLog()
    for number in range(60):
        log.step(args={"path": f"{number}.txt"}, result=f"content {number}")
    assert set(strikes(log)) == {None}


def test_a_resumed_brake_stands_where_it_stood() -> None:
    log = EventLog()
    for _ in range(3):
        log.step()
    log.add("nudge", step=3, text="", reason="")
    log.step()
    _, brake = fold(log)
    assert brake.nudged
    assert brake.strikes == 1
    log.step()
    assert fold(log)[1].stuck


def test_spent_counts_steps_tokens_and_active_seconds_without_the_gap() -> None:
    log = EventLog(start=0)
    log.step(tokens=7)
    log.step(tokens=5)  # seconds 0..4 of the first run
    log._clock = iter(range(1000, 2000))  # a long night
    log.add("resume", step=3)
    spent, _ = fold(log)
    assert (spent.steps, spent.tokens, spent.seconds_before) == (2, 12, 4)


@pytest.mark.parametrize(
    ("budget", "ending"),
    [
        (Budget(steps=2), Ending.OUT_OF_STEPS),
        (Budget(tokens=20), Ending.OUT_OF_TOKENS),
        (Budget(seconds=0.001), Ending.OUT_OF_TIME),
    ],
)
def test_each_limit_has_its_ending_and_names_its_flag(budget: Budget, ending: Ending) -> None:
    log = EventLog()
    log.step()
    log.step()
    clock = BudgetClock(budget, fold(log)[0], started=time.monotonic() - 1)
    over = clock.exhausted()
    assert over is not None
    assert over[0] is ending
    assert "--" in over[1]
    assert ending.exit_code == 124
    assert BudgetClock(Budget(), fold(log)[0]).exhausted() is None


def test_what_failed_is_known_until_something_changes() -> None:
    tools = [{"name": "read_file", "effects": ["reads"]}, {"name": "make", "effects": ["executes"]}]
    log = EventLog(tools=tools)
    log.step(args={"path": "a"}, status="error", result="no file a")
    log.step(args={"path": "b"}, status="refused", result="not allowed")
    log.step(args={"path": "c"}, result="found")
    assert [action.args["path"] for action in failed_actions(list(log))] == ["a", "b"]
    log.step("write_file", {"path": "d"}, result="written", files=["d"])
    assert failed_actions(list(log)) == ()
    log.step(args={"path": "e"}, status="error", result="no file e")
    log.step("make", {}, result="a folder, which no list of files names")
    assert failed_actions(list(log)) == ()
    log.step(args={"path": "e"}, status="error", result="no file e")
    log.step(args={"path": "e"}, result="there it is")
    assert failed_actions(list(log)) == (), "something must have changed"
    log.step(args={"path": "e"}, status="error", result="no file e")
    log.add("resume", budget={}, action_schema={})
    assert failed_actions(list(log)) == (), "a person may have changed what was wrong"


def test_an_invalid_action_is_no_action_that_failed() -> None:
    log = EventLog()
    log.step(None, None, status="invalid", result="not valid JSON")
    assert failed_actions(list(log)) == ()
