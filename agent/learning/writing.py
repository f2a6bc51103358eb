"""An action as the engine would have written it: the same JSON, the same tokens, the same of them forced.

For actions that no local model wrote (a script's, another model's), so that training on them is training on what this
engine decodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from agent.engine.grammar import Matcher, Vocabulary
from agent.engine.tokenizer import ModelTokenizer
from agent.types import JSON, WhetstoneError


class Unusable(WhetstoneError):
    """A session that cannot be made into sequences; `str(error)` says why in a few words, for counting."""


def action_text(action: Mapping[str, JSON], schema: Mapping[str, JSON]) -> str:
    """The JSON of an action as the engine writes it: no blanks, keys in the order of its tool's schema."""
    branch = next((b for b in schema["anyOf"] if b["properties"]["tool"]["const"] == action["tool"]), None)
    if branch is None:
        raise Unusable("it uses a tool that its schema does not have")
    ordered = _in_order({key: action[key] for key in ("thought", "tool", "args")}, branch)
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


class Walk:
    """Writes a text through a grammar: forced tokens as the grammar gives them, the others as the tokenizer does."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: ModelTokenizer, matcher: Matcher) -> None:
        self.ids: list[int] = []
        self.chosen: list[bool] = []
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._matcher = matcher

    def write(self, text: str) -> None:
        rest = self._force(text.encode("utf-8", "replace"))
        while not self._ended:
            before = rest
            for id in self._tokenizer.encode(rest.decode("utf-8", "replace")) if rest else [self._vocabulary.end_id]:
                if not (rest.startswith(self._vocabulary.bytes_of(id)) and self._allows(id)):
                    break
                after = self._take(id, rest)
                forced = self._force(after)
                rest, went_on = forced, len(forced) < len(after)
                if went_on or self._ended:
                    break
            if rest == before and not self._ended:
                rest = self._one_byte(rest)

    @property
    def _ended(self) -> bool:
        return bool(self.ids) and self.ids[-1] == self._vocabulary.end_id

    def _take(self, id: int, rest: bytes) -> bytes:
        self._append([id], chosen=True)
        if id != self._vocabulary.end_id:
            self._matcher.consume([id])
        return rest[len(self._vocabulary.bytes_of(id)) :]

    def _force(self, rest: bytes) -> bytes:
        while not self._ended and (step := self._matcher.forced()):
            for id in step:
                content = self._vocabulary.bytes_of(id)
                if not rest.startswith(content):
                    raise Unusable("an action cannot be written under its schema")
                rest = rest[len(content) :]
            self._append(step, chosen=False)
            if not self._ended:
                self._matcher.consume(step)
        if not self._ended and self._matcher.finished:
            self._append([self._vocabulary.end_id], chosen=False)
        return rest

    def _one_byte(self, rest: bytes) -> bytes:
        id = self._vocabulary.single_byte(rest[0]) if rest else None
        if id is None or not self._allows(id):
            raise Unusable("an action cannot be written under its schema")
        return self._force(self._take(id, rest))

    def _allows(self, id: int) -> bool:
        mask = self._matcher.mask()
        return bool(mask[id >> 3] >> (id & 7) & 1)

    def _append(self, ids: Sequence[int], *, chosen: bool) -> None:
        self.ids += ids
        self.chosen += [chosen] * len(ids)


def _in_order(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value` with the keys of its objects in the order of `schema`'s properties, which is the grammar's order."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        properties: Mapping[str, Any] = schema.get("properties", {})
        if not properties and "anyOf" in schema:
            fitting = [b for b in schema["anyOf"] if set(fields) <= set(b.get("properties", {}))]
            return _in_order(fields, fitting[0]) if fitting else fields
        known = {key: _in_order(fields[key], properties[key]) for key in properties if key in fields}
        return known | {key: part for key, part in fields.items() if key not in known}
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        items: Any = schema.get("items")
        return [_in_order(part, items) for part in parts] if isinstance(items, Mapping) else parts
    return value
