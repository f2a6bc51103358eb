"""Events of a made-up session, as the loop logs them, for the tests of what shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.types import Event

SESSION = "20261122-010203-abcdef"
HOSTILE = "\x1b]52;c;cm0gLXJmIH4=\x07\x1b[2J[/nope][bold]\u202eevil\x9b31m\ud800"


class Session:
    """Collects events. Every method appends what the loop would append, a second apart."""

    def __init__(self, *, steps: int = 20, tokens: int = 8000, goal: str = "Add up the prices in prices.csv") -> None:
        self.events: list[Event] = []
        budget = {"steps": steps, "tokens": tokens, "seconds": 600.0, "action_tokens": 768}
        self.add(
            "session",
            schema=1,
            session=SESSION,
            version="0.1.0",
            goal={"text": goal, "check": None, "answer_schema": None, "budget": budget, "tags": []},
            policy={"name": "starter", "adapter": None, "dtype": "int8", "device": "cpu"},
            tools=[],
            tools_digest="0",
            sandbox={"rung": "bubblewrap", "reduced": False, "reason": "it works"},
            memory=True,
            workspace="/home/ada/workspace",
            settings={},
            seed=0,
            parent=None,
        )

    def add(self, kind: str, **data: Any) -> Event:
        event = Event(len(self.events), kind, 1_790_000_000.0 + len(self.events), data)
        self.events.append(event)
        return event

    def recall(self, step: int, text: str) -> None:
        record = {"id": "r1", "text": text, "kind": "note", "origin": "model", "session": "20261121-090000-000001"}
        record |= {
            "step": 3,
            "goal": "g",
            "created": 1_789_800_000.0,
            "importance": 0.7,
            "score": 0.812,
            "parts": {"dense": 0.7},
        }
        self.add("recall", step=step, query="prices", records=[record])

    def action(self, step: int, thought: str, tool: str, args: Mapping[str, Any], *, thinking: str = "") -> Event:
        usage = {"prompt": 400, "cached": 300, "prefilled": 100, "forced": 12, "sampled": 30}
        return self.add(
            "action",
            step=step,
            text=json.dumps({"thought": thought, "tool": tool, "args": args}),
            thinking=thinking,
            thought=thought,
            tool=tool,
            args=args,
            valid=True,
            error=None,
            finish="stop",
            token_ids=[1, 2, 3],
            sampled=[0, 1, 1],
            logprobs=[0.0, -0.5, -1.5],
            usage=usage,
            prompt_digest="d" * 64,
            milliseconds={"prefill": 80.0, "decode": 900.5, "total": 990.0},
        )

    def approval(self, step: int, decision: str = "allowed", by: str = "mode", rule: str = "auto", comment: str = ""):
        self.add("approval", step=step, decision=decision, by=by, rule=rule, comment=comment)

    def observation(self, step: int, text: str, status: str = "ok", files: Sequence[str] = (), **more: Any) -> Event:
        data: dict[str, Any] = {"status": status, "text": text, "origin": "tool:x", "truncated": False, "seconds": 0.2}
        data |= {"files": list(files), "value": None, "ends": False}
        return self.add("observation", step=step, **data | more)

    def end(self, ending: str = "finished", answer: Any = "The sum is 42.", **more: Any) -> Event:
        data: dict[str, Any] = {"ending": ending, "answer": answer, "check": None, "session": SESSION, "steps": 4}
        data |= {"tokens": 168, "seconds": 14.2, "reason": "the agent finished", "files": ["sum.txt"]}
        return self.add("end", **data | more)


def whole_session() -> list[Event]:
    """Four steps: read, compute, write, finish; with a recall, an invalid action, a nudge and a check."""
    s = Session()
    s.recall(1, "prices.csv has a header line and the price in its second column")
    s.action(1, "I should look at the file first.", "read_file", {"path": "prices.csv"})
    s.approval(1)
    s.observation(1, "item,price\nbolt,12\nnut,30\n")
    code = "import csv\n\nwith open('prices.csv') as file:\n    rows = list(csv.DictReader(file))\n"
    code += "print(sum(int(row['price']) for row in rows))\n"
    s.action(2, "Now add the second column up.", "run_python", {"code": code})
    s.approval(2, by="user", rule="")
    s.observation(2, "stdout:\n42\nexit status 0")
    s.action(3, "Write it down.", "write_file", {"path": "sum.txt", "content": "42\n"})
    s.approval(3)
    s.observation(3, "wrote 3 bytes to sum.txt", files=["sum.txt"])
    s.add("nudge", step=3, text="Try something else.", reason="the same action twice")
    s.action(4, "Done.", "finish", {"answer": "The sum is 42."})
    s.approval(4)
    s.observation(4, "finished", value="The sum is 42.", ends=True)
    s.end(check={"passed": True, "detail": "sum.txt contains '42'"})
    return s.events


def hostile_session() -> list[Event]:
    """The same kinds of events with text that attacks the terminal in every place a model or a tool can reach."""
    s = Session(goal=HOSTILE)
    s.recall(1, HOSTILE)
    s.action(1, HOSTILE, "run_python", {"code": f"a\n{HOSTILE}\nb", HOSTILE: HOSTILE}, thinking=HOSTILE)
    s.approval(1, "refused", "user", "", HOSTILE)
    s.observation(1, f"{HOSTILE}\n{HOSTILE}", "refused")
    s.action(2, "x", "write_file", {"path": f"a{HOSTILE}.py", "content": f"{HOSTILE}\nx"})
    s.approval(2, "allowed", "rule", HOSTILE)
    s.observation(2, HOSTILE, files=[HOSTILE])
    s.action(3, "x", "edit_file", {"path": "a", "old": f"{HOSTILE}1", "new": f"{HOSTILE}2"})
    s.approval(3)
    s.observation(3, HOSTILE, "error")
    event = s.action(4, HOSTILE, HOSTILE, {})
    s.events[-1] = Event(event.seq, "action", event.time, {**event.data, "valid": False, "error": HOSTILE})
    s.observation(4, HOSTILE, "invalid")
    s.add("nudge", step=4, text=HOSTILE, reason=HOSTILE)
    s.add("notice", text=HOSTILE)
    s.add("compaction", step=5, steps=[1, 2], tokens_before=900, tokens_after=200)
    s.end("error", HOSTILE, reason=HOSTILE, files=[HOSTILE], check={"passed": False, "detail": HOSTILE})
    return s.events
