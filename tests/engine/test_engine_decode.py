"""What an action may be: valid against its schema, whatever the model would rather say, and however it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.engine.chat import Chat
from agent.engine.decode import Engine, Request, prompt_digest
from agent.engine.models import LoadedModel, load_model
from agent.engine.sampling import Sampling
from agent.policies.local import LocalPolicy
from agent.types import Message, Prompt, WhetstoneError
from tests.engine.conftest import engine_of
from tests.models import THINKING, build_model, tool_schema

SCHEMA = tool_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def prompt_ids(loaded: LoadedModel, text: str = "Read notes.txt") -> list[int]:
    return Chat(loaded.tokenizer).encode(Prompt((Message("user", text, "goal"),)))


def wild(seed: int, step: int = 0) -> Sampling:
    return Sampling(temperature=1.5, seed=seed, step=step)


def test_wild_actions_are_all_valid(loaded: LoadedModel) -> None:
    """250 for each family, 500 together."""
    engine, ids = engine_of(loaded), prompt_ids(loaded)
    finishes: set[str] = set()
    tools: set[str] = set()
    for batch in range(10):
        requests = [
            Request(f"s{n}", ids, SCHEMA, max_tokens=48 + 3 * n, sampling=wild(batch, step=n)) for n in range(25)
        ]
        for completion in engine.complete_many(requests):
            action = json.loads(completion.text)
            VALIDATOR.validate(action)
            assert list(action) == ["thought", "tool", "args"]
            finishes.add(completion.finish)
            tools.add(action["tool"])
    assert len(tools) > 4


@pytest.mark.parametrize("limit", [*range(30, 70, 3), 120])
def test_an_action_cut_by_its_limit_is_still_valid_and_says_so(llama: LoadedModel, limit: int) -> None:
    for seed in range(3):
        request = Request("s", prompt_ids(llama), SCHEMA, max_tokens=limit, sampling=wild(seed))
        completion = engine_of(llama).complete(request)
        VALIDATOR.validate(json.loads(completion.text))
        assert len(completion.token_ids) <= limit
        assert completion.token_ids[-1] == Chat(llama.tokenizer).end_id
        if completion.finish == "length":
            assert not completion.sampled[-1]
        else:
            assert completion.finish == "stop"


def test_a_limit_below_the_shortest_action_says_length(llama: LoadedModel) -> None:
    completion = engine_of(llama).complete(Request("s", prompt_ids(llama), SCHEMA, max_tokens=5))
    assert completion.finish == "length"
    assert len(completion.token_ids) == 5


def test_the_deadline_ends_an_action_with_valid_json(llama: LoadedModel) -> None:
    request = Request("s", prompt_ids(llama), SCHEMA, 400, wild(1), deadline=time.monotonic() - 1)
    completion = engine_of(llama).complete(request)
    assert completion.finish == "time"
    VALIDATOR.validate(json.loads(completion.text))


def test_cancellation_is_heard_between_tokens_and_keeps_what_was_said(llama: LoadedModel) -> None:
    pieces: list[str] = []
    request = Request(
        "s", prompt_ids(llama), SCHEMA, 400, wild(2), on_text=pieces.append, cancelled=lambda: len(pieces) > 20
    )
    completion = engine_of(llama).complete(request)
    assert completion.finish == "cancelled"
    assert "".join(pieces) == completion.text
    VALIDATOR.validate(json.loads(completion.text))


def test_cancellation_is_heard_while_a_long_prompt_is_read(llama: LoadedModel) -> None:
    asked: list[int] = []
    request = Request(
        "s", prompt_ids(llama, "word " * 600), SCHEMA, 400, cancelled=lambda: asked.append(1) or len(asked) > 3
    )
    completion = engine_of(llama, prefill_tokens=32).complete(request)
    assert completion.finish == "cancelled"
    assert completion.usage.sampled == 0


def test_streamed_text_is_whole_characters_and_adds_up(llama: LoadedModel) -> None:
    schema = {"type": "object", "properties": {"t": {"type": "string", "maxLength": 60}}, "required": ["t"]}
    non_ascii, engine = 0, engine_of(llama)
    for seed in range(16):
        pieces: list[str] = []
        request = Request("s", prompt_ids(llama), schema, 120, wild(seed), on_text=pieces.append)
        completion = engine.complete(request)
        assert "".join(pieces) == completion.text
        assert "\ufffd" not in completion.text
        non_ascii += not completion.text.isascii()
    assert non_ascii > 4, "characters of several bytes occurred"


def test_same_seed_same_tokens_and_another_seed_others(loaded: LoadedModel) -> None:
    def run(seed: int, step: int = 0, stream: str = "") -> tuple[int, ...]:
        sampling = Sampling(temperature=1.0, seed=seed, step=step, stream=stream)
        return engine_of(loaded).complete(Request("s", prompt_ids(loaded), SCHEMA, 80, sampling)).token_ids

    assert run(7) == run(7)
    assert len({run(7), run(8), run(7, step=1), run(7, stream="b")}) == 4


def test_a_completion_accounts_for_every_token(loaded: LoadedModel) -> None:
    ids = prompt_ids(loaded)
    completion = engine_of(loaded).complete(Request("s", ids, SCHEMA, 200, wild(5)))
    usage = completion.usage
    assert len(completion.token_ids) == len(completion.sampled) == len(completion.logprobs) == usage.generated
    assert usage.sampled == sum(completion.sampled)
    assert all(lp == 0.0 for lp, sampled in zip(completion.logprobs, completion.sampled, strict=True) if not sampled)
    assert all(lp <= 0.0 for lp in completion.logprobs)
    assert min(completion.logprobs) < -1.0
    assert completion.prompt_digest == prompt_digest(ids)
    assert {"prefill", "decode", "mask", "total"} <= completion.milliseconds.keys()
    assert decoded(loaded, completion.token_ids) == completion.text


def decoded(loaded: LoadedModel, ids: tuple[int, ...]) -> str:
    return loaded.tokenizer.decode(ids[:-1])


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(llama: LoadedModel) -> None:
    with pytest.raises(WhetstoneError, match="5000 tokens and the model's context 4096"):
        engine_of(llama).complete(Request("s", [5] * 5000, SCHEMA, 10))


def test_a_smaller_window_holds_prompt_and_completion(llama: LoadedModel) -> None:
    ids = prompt_ids(llama)
    completion = engine_of(llama, context_tokens=len(ids) + 50).complete(Request("s", ids, SCHEMA, 400, wild(0)))
    assert len(completion.token_ids) <= 50
    VALIDATOR.validate(json.loads(completion.text))
    with pytest.raises(WhetstoneError, match="the model's context 10"):
        engine_of(llama, context_tokens=10).complete(Request("s", ids, SCHEMA, 10))


def test_a_tool_that_requires_much_is_left_room_for(llama: LoadedModel) -> None:
    long = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 60, "maxLength": 90}},
        "required": ["a"],
    }
    schema = {"anyOf": [{"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}, long]}
    for seed in range(12):
        for limit in (20, 60, 100):
            completion = engine_of_cached(llama).complete(Request("s", prompt_ids(llama), schema, limit, wild(seed)))
            jsonschema.validate(json.loads(completion.text), schema)


@pytest.mark.parametrize("limit", [150, 300, 450])
def test_a_tool_that_requires_more_than_is_left_is_not_begun(llama: LoadedModel, limit: int) -> None:
    essay = {"type": "object", "properties": {"text": {"type": "string", "minLength": 500, "maxLength": 900}}}
    either = [
        {"type": "object", "properties": {"tool": {"const": "end"}, "args": {"type": "object", "maxProperties": 0}}},
        {"type": "object", "properties": {"tool": {"const": "write"}, "args": {**essay, "required": ["text"]}}},
    ]
    schema = {"anyOf": [{**tool, "required": ["tool", "args"], "additionalProperties": False} for tool in either]}
    for seed in range(6):
        asked = Request("s", prompt_ids(llama), schema, limit, wild(seed))
        jsonschema.validate(json.loads(engine_of_cached(llama).complete(asked).text), schema)
        heard = iter([False] * 30)
        late = replace(asked, cancelled=lambda heard=heard: next(heard, True))
        jsonschema.validate(json.loads(engine_of_cached(llama).complete(late).text), schema)


def test_what_is_forced_does_not_pass_the_limit(llama: LoadedModel) -> None:
    schema = {"type": "object", "properties": {"a": {"const": "abcdefgh zq" * 200}}, "required": ["a"]}
    completion = engine_of(llama).complete(Request("s", prompt_ids(llama), schema, 50))
    assert (len(completion.token_ids), completion.finish) == (50, "length")


def test_only_what_can_be_written_has_a_probability(llama: LoadedModel) -> None:
    fields = {"thought": {"type": "string", "maxLength": 40}, "count": {"type": "integer", "minimum": 0, "maximum": 99}}
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    prompt = Prompt((Message("user", "Count.", "goal"),))
    policy = LocalPolicy(llama, session="s", sampling=Sampling())
    assert policy.score(prompt, schema, '{"thought":"ok","count":5}') is not None
    for text in (
        '{"XXXXXXX":"ok","count":5}', '{"thought":"ok","count":5}garbage', '{"thought":"ok","cXXXX":5}',
        '{"thought":"ok","count":5', '[["thought":"ok","count":5}', '{"thought":"ok","count":500}',
    ):  # fmt: skip
        assert policy.score(prompt, schema, text) is None, text


def test_output_that_is_not_a_number_is_an_error_not_an_action(llama: LoadedModel) -> None:
    class Broken:
        layers, vocabulary, context_tokens = llama.model.layers, llama.model.vocabulary, llama.model.context_tokens
        dtype, device, new_cache = llama.model.dtype, llama.model.device, llama.model.new_cache

        def forward(self, rows: Any) -> Any:
            return llama.model.forward(rows) * float("nan")

    for sampling in (Sampling(), wild(0)):
        engine = Engine(Broken(), llama.tokenizer, end_id=Chat(llama.tokenizer).end_id)
        with pytest.raises(WhetstoneError, match="not a number"):
            engine.complete(Request("s", prompt_ids(llama), SCHEMA, 60, sampling))


def test_caches_stay_within_their_budget_and_the_oldest_goes_first(llama: LoadedModel) -> None:
    one = engine_of(llama)
    one.complete(Request("a", prompt_ids(llama), SCHEMA, 40))
    size = one.holds("a")
    engine = engine_of(llama, cache_bytes=int(2.5 * size))
    for session in ("a", "b", "c"):
        engine.complete(Request(session, prompt_ids(llama), SCHEMA, 40))
    assert [bool(engine.holds(session)) for session in ("a", "b", "c")] == [False, True, True]
    assert engine.holds("c") <= 2.5 * size
    engine.forget("c")
    assert not engine.holds("c")


def test_thoughts_are_of_tokens_that_the_tokenizer_has(tmp_path: Path) -> None:
    """Where the output is wider than the tokenizer, as Qwen's is."""
    folder = build_model(tmp_path / "wide", template=THINKING, vocab_size=600)
    loaded = load_model(str(folder), dtype="fp32", cache=tmp_path / "cache")
    assert loaded.model.vocabulary > loaded.tokenizer.size
    completion = engine_of(loaded).complete(Request("s", prompt_ids(loaded), SCHEMA, 300, wild(0), thinks=True))
    assert completion.thinking
    assert max(completion.token_ids) < loaded.tokenizer.size


@pytest.mark.parametrize("seed", range(6))
def test_a_thinking_model_thinks_freely_then_acts_validly(tmp_path_factory: Any, seed: int) -> None:
    loaded = thinking_model(tmp_path_factory)
    chat = Chat(loaded.tokenizer)
    assert chat.thinks
    pieces: list[str] = []
    request = Request("s", prompt_ids(loaded), SCHEMA, 300, wild(seed), thinks=chat.thinks, on_text=pieces.append)
    completion = engine_of(loaded).complete(request)
    VALIDATOR.validate(json.loads(completion.text))
    assert "".join(pieces) == completion.text, "thinking is not part of the action's text"
    assert completion.thinking
    decoded = loaded.tokenizer.decode(completion.token_ids)
    before, mark, after = decoded.partition("</think>")
    assert mark
    assert "</think>" not in before
    assert after.startswith('\n\n{"thought"')
    assert len(completion.token_ids) <= 300
    # The next prompt repeats the thinking token for token, so the cache holds.
    messages = (
        Message("user", "Read notes.txt", "goal"),
        Message("assistant", completion.text, "history", 1, completion.token_ids),
        Message("user", "ok", "history", 1),
    )
    assert chat.encode(Prompt(messages))[: len(request.ids) + len(completion.token_ids)] == [
        *request.ids,
        *completion.token_ids,
    ]


_thinking: dict[str, LoadedModel] = {}


def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    from agent.engine.models import load_model

    if not _thinking:
        folder = build_model(tmp_path_factory.mktemp("thinking"), template=THINKING)
        _thinking["model"] = load_model(str(folder), dtype="fp32", cache=tmp_path_factory.mktemp("cache"))
    return _thinking["model"]


NASTY: list[Mapping[str, Any]] = [
    {"type": "integer", "minimum": 100, "maximum": 250},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "integer", "minimum": -9, "maximum": -3},
    {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 3, "maxItems": 5},
    {"type": "string", "minLength": 12, "maxLength": 20},
    {"type": "string", "pattern": "^[a-z]{3}-[0-9]{2}$"},
    {"enum": ["alpha", "beta", None, 3, True]},
    {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"],
     "$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}},
                                                  "required": ["n"], "additionalProperties": False}]}}},
    {"type": "string", "format": "date"},
]  # fmt: skip


@pytest.mark.parametrize("schema", NASTY, ids=lambda s: json.dumps(s)[:50])
def test_every_position_of_every_schema_has_a_legal_way_out(llama: LoadedModel, schema: Mapping[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    for seed in range(4):
        for limit in (24, 40, 90):
            request = Request("s", prompt_ids(llama), schema, limit, wild(seed))
            completion = engine_of_cached(llama).complete(request)
            validator.validate(json.loads(completion.text))


_engines: dict[int, Engine] = {}


def engine_of_cached(loaded: LoadedModel) -> Engine:
    return _engines.setdefault(id(loaded), engine_of(loaded))
