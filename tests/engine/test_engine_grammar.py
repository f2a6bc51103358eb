"""Which schemas can be enforced, and that masks and way-outs agree with a validator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.engine.grammar import check_schema
from agent.engine.models import LoadedModel
from agent.types import WhetstoneError
from tests.engine.conftest import engine_of
from tests.models import tool_schema


def test_the_schema_of_tools_can_be_enforced() -> None:
    check_schema(tool_schema())


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, r"\(.*\bnot\b"),
        ({"type": "string", "format": "telepathy"}, "telepathy"),
        ({"type": "string", "pattern": "a(?=b)"}, "look-around"),
        ({"$ref": "#/nowhere"}, "/nowhere"),
        ({"type": "strin"}, "strin"),
        ({"if": {"type": "string"}, "then": {"maxLength": 2}}, "if"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(WhetstoneError, match=named):
        check_schema(schema)
    with pytest.raises(WhetstoneError, match=named):
        check_schema({"type": "object", "properties": {"deep": schema}, "required": ["deep"]})


def test_a_schema_is_compiled_once(llama: LoadedModel) -> None:
    vocabulary = engine_of(llama).vocabulary
    first, second = vocabulary.matcher(tool_schema()), vocabulary.matcher(tool_schema())
    first.consume(first.forced())
    assert second.forced(), "walks of one grammar do not disturb each other"
    assert first.shortest == second.shortest


def test_json_is_written_without_blanks(llama: LoadedModel) -> None:
    matcher = engine_of(llama).vocabulary.matcher(tool_schema())
    text = llama.tokenizer.decode(matcher.shortest[:-1])
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


def test_a_way_out_takes_the_tool_that_is_said_soonest(llama: LoadedModel) -> None:
    schema = tool_schema()
    vocabulary = engine_of(llama).vocabulary
    alone = [vocabulary.matcher(tool).shortest for tool in schema["anyOf"]]
    # A name begun byte by byte may cost a few tokens more than the name in one piece.
    assert len(vocabulary.matcher(schema).shortest) <= min(map(len, alone)) + 4
    assert max(map(len, alone)) > min(map(len, alone)) + 4


def test_tokens_beyond_the_tokenizer_are_never_allowed(llama: LoadedModel) -> None:
    from agent.engine.grammar import Vocabulary

    size = llama.tokenizer.size
    vocabulary = Vocabulary(llama.tokenizer, logits=size + 70, end_id=2)
    matcher = vocabulary.matcher({"type": "string"})
    matcher.consume(llama.tokenizer.encode('"a'))
    mask = matcher.mask()
    assert len(mask) * 8 >= size + 70
    assert not any(mask[id >> 3] >> (id & 7) & 1 for id in range(size, size + 70))
    assert not any(mask[id >> 3] >> (id & 7) & 1 for id in llama.tokenizer.control_ids - _text_like(llama))


def _text_like(loaded: LoadedModel) -> set[int]:
    # Think tags are ordinary added tokens: inside a JSON string they are text.
    return {id for name in ("<think>", "</think>") if (id := loaded.tokenizer.id_of(name)) is not None}
