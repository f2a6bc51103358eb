"""Chats that somebody else made (`messages` or `sharegpt`, with tool calls) as sessions to learn from.

The reverse of `agent.export.chat`: what this runtime exported comes back with the same turns. In other chats the system
turn is replaced by this runtime's own, with the chat's tools in it, because that is what the model will be shown. A
call of a tool is an action and the text beside it the thought; what came back is the observation; a last answer in
plain text is a call of `finish`. A chat is verified where it says so itself: `"check": {"passed": true}`. A session has
one goal and calls one tool at a step, so a chat with a second question or with parallel calls is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn, cast

from agent.journal import Session
from agent.types import JSON, Event, WhetstoneError
from prompts import system_text, templates_digest
from tools.base import Tool
from tools.finish import finish_tool
from tools.json_schema import closed_schema
from tools.schema import MAX_THOUGHT, action_schema, describe_tools

_OURS = "Answer each turn with one JSON object"
_STATUS = re.compile(r"Result \((ok|error|refused|invalid|unknown)\): ?", re.DOTALL)
_FIRST = re.compile(r"(?:Memory \([^\n]*\n(?P<memory>.*?)\n+)?Goal: (?P<goal>.*)", re.DOTALL)
_RECORD = re.compile(r'^- \[(?P<kind>.*?) from (?P<origin>.*?)\] (?P<text>".*")$', re.MULTILINE)
_SPEAKERS = {"system": "system", "human": "user", "gpt": "assistant", "observation": "tool"}


def read_chats(path: Path) -> list[Session]:
    """The chats in a JSON or JSONL file as sessions.

    Raises WhetstoneError, with its number, for one that is none or that no session could be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines() if _is_lines(text) else [text]
        whole = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{path} cannot be read as JSON ({error}): give messages or sharegpt") from error
    rows = cast("list[Any]", whole[0] if len(whole) == 1 and isinstance(whole[0], list) else whole)
    return [_session(path, number, row) for number, row in enumerate(rows, start=1)]


def _session(path: Path, number: int, row: Any) -> Session:
    try:
        messages = _messages(row)
        tools = _tools(row.get("tools"))
        digest = sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
        name = str(row.get("session") or f"{path.stem}-{number}-{digest[:8]}")
        events = _Events(name, tools, messages, row)
    except _NoSession as reason:
        raise WhetstoneError(
            f"chat {number} in {path} cannot be a session, {reason}: take it out of the file"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise WhetstoneError(
            f"chat {number} in {path} is not understood ({type(error).__name__}: {error}): it needs `messages` or"
            " `conversations` in the form that docs/export.md shows"
        ) from error
    return Session(path.with_name(f"{name}.jsonl"), tuple(events.events), head=digest)


class _NoSession(Exception):
    """Why a chat cannot be told as a session."""


class _Events:
    """A chat as the events that would have made it."""

    def __init__(
        self, name: str, tools: Sequence[Tool], messages: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
    ) -> None:
        self.events: list[Event] = []
        self._step = 0
        rest = list(messages)
        system = str(rest.pop(0)["content"]) if rest[0]["role"] == "system" else ""
        first = _FIRST.fullmatch(rest[0]["content"])
        goal = first["goal"] if first else str(rest[0]["content"])
        schema = action_schema(tools)
        self._add(
            "session",
            schema=1,
            session=name,
            goal={"text": goal, "check": None, "answer_schema": None, "tags": list(row.get("tags") or [])},
            system=system if _OURS in system else system_text(tools=describe_tools(tools)),
            templates_digest=templates_digest(),
            policy={"name": row.get("model") or "imported"},
            tools=[{"name": t.name, "summary": t.summary, "effects": ["writes"], "schema": t.schema} for t in tools],
            action_schema=schema,
            parent=None,
        )
        if first and first["memory"]:
            found = [match.groupdict() for match in _RECORD.finditer(first["memory"])]
            records = [{**record, "text": json.loads(record["text"])} for record in found]  # with the age in `origin`
            self._add("recall", step=1, query=goal, records=records)
        answer: JSON = None
        for message in rest[1:]:
            answer = self._take(message, answer)
        ending = "finished" if answer is not None else str(row.get("ending") or "interrupted")
        self._add("end", ending=ending, answer=answer, check=row.get("check"), session=name)

    def _take(self, message: Mapping[str, Any], answer: JSON) -> JSON:
        content = str(message.get("content") or "")
        if message["role"] == "assistant":
            self._step += 1
            calls = message.get("tool_calls") or []
            if len(calls) > 1:
                raise _NoSession(f"it calls {len(calls)} tools in one turn")
            if calls:
                call = calls[0]["function"]
                arguments = call["arguments"]
                args = json.loads(arguments) if isinstance(arguments, str) else arguments
                self._action(content, call["name"], args)
                if call["name"] == "finish":
                    self._observed("ok", json.dumps(args.get("answer")), ends=True)
                    return args.get("answer")
            elif _is_refused(content):
                self._invalid(content)
            else:
                self._action("I have the answer.", "finish", {"answer": content})
                self._observed("ok", content, ends=True)
                return content
        elif message["role"] == "user" and not self._was_refused():
            raise _NoSession("it has a further turn of the user")
        elif self._step and self.events[-1].kind == "observation" and answer is not None:
            self.events.pop()  # what came back from the finish that was assumed above
            self._observed(*_result(content), ends=True)
        elif self._step:
            self._observed(*_result(content))
        return answer

    def _action(self, thought: str, tool: str, args: Mapping[str, JSON]) -> None:
        thought = thought[:MAX_THOUGHT]
        text = json.dumps({"thought": thought, "tool": tool, "args": args}, ensure_ascii=False)
        self._log_action(text, thought=thought, tool=tool, args=dict(args), valid=True)

    def _invalid(self, text: str) -> None:
        self._log_action(text, thought=None, tool=None, args=None, valid=False)

    def _was_refused(self) -> bool:
        """Whether the last action was not valid: what comes back then is no tool's."""
        return next((not event.data["valid"] for event in reversed(self.events) if event.kind == "action"), False)

    def _log_action(self, text: str, **fields: JSON) -> None:
        empty: dict[str, JSON] = {"thinking": "", "token_ids": [], "sampled": [], "logprobs": [], "prompt_digest": ""}
        self._add("action", step=self._step, text=text, error=None, finish="stop", **empty, **fields)

    def _observed(self, status: str, text: str, *, ends: bool = False) -> None:
        self._add("observation", step=self._step, status=status, text=text, origin="tool:imported", files=[], ends=ends)

    def _add(self, kind: str, **data: JSON) -> None:
        self.events.append(Event(len(self.events), kind, 0.0, data))


def _messages(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "messages" in row:
        return list(row["messages"])
    found: list[Mapping[str, Any]] = []
    for turn in row["conversations"]:
        if turn["from"] != "function_call":
            found.append({"role": _SPEAKERS[turn["from"]], "content": turn["value"]})
            continue
        call = json.loads(turn["value"])
        function = {"name": call["name"], "arguments": call["arguments"]}
        found.append({"role": "assistant", "content": call.get("thought", ""), "tool_calls": [{"function": function}]})
    return found


def _tools(given: Any) -> list[Tool]:
    definitions: list[Any] = json.loads(given) if isinstance(given, str) else list(given or [])
    found: list[Tool] = []
    for definition in definitions:
        function = definition.get("function", definition)
        schema = closed_schema(function["parameters"], where=f"the imported tool {function['name']}")
        summary = str(function.get("description") or "").partition("\n")[0]
        found.append(Tool(function["name"], summary, frozenset(), schema, None, frozenset(), _never, _never))
    if not any(tool.name == "finish" for tool in found):
        found.append(finish_tool())
    return found


def _never(*_: Any, **__: Any) -> NoReturn:
    raise WhetstoneError("an imported tool cannot be called: it is only a description")


def _is_refused(content: str) -> bool:
    return content.lstrip().startswith("{") and '"tool"' in content


def _result(content: str) -> tuple[str, str]:
    match = _STATUS.match(content)
    return (match[1], content[match.end() :]) if match else ("ok", content)


def _is_lines(text: str) -> bool:
    first = text.lstrip().partition("\n")[0]
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False
