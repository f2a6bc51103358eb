"""An action that failed is not said again: the nearest other one is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import jsonschema
import pytest

from agent.engine.decode import Request
from agent.engine.models import LoadedModel
from agent.engine.sampling import Sampling
from agent.policies.local import LocalPolicy
from agent.policies.otherwise import otherwise
from agent.types import Action, Completion, Message, Prompt, TokenUsage
from tests.models import tool_schema

PROMPT = Prompt((Message("system", "You are an agent.", "system"), Message("user", "Goal: count the lines.", "goal")))


def short_schema() -> dict[str, Any]:
    """The tools' schema with arguments so short that random text comes to its end."""
    return json.loads(re.sub(r'"maxLength": \d+', '"maxLength": 8', json.dumps(tool_schema())))


def say(
    policy: LocalPolicy, avoid: Sequence[Action] = (), schema: Any = None, told: list[str] | None = None
) -> Completion:
    done = policy.act(
        PROMPT,
        schema or short_schema(),
        step=1,
        max_tokens=200,
        deadline=time.monotonic() + 120,
        on_text=(told if told is not None else []).append,
        cancelled=lambda: False,
        avoid=avoid,
    )
    assert done.finish == "stop"
    return done


def action(completion: Completion) -> Action:
    return Action(**json.loads(completion.text))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_another_action_is_said_where_one_failed(loaded: LoadedModel, temperature: float) -> None:
    policy = LocalPolicy(loaded, session="s", sampling=Sampling(temperature=temperature, seed=3))
    first = say(policy)
    other = say(policy, [action(first)])
    assert (action(other).tool, action(other).args) != (action(first).tool, action(first).args)
    jsonschema.Draft202012Validator(short_schema()).validate(json.loads(other.text))
    assert len(other.token_ids) == len(other.sampled) == len(other.logprobs)
    assert loaded.tokenizer.decode(other.token_ids).startswith(other.text)
    third = say(policy, [action(first), action(other)])
    assert (action(third).tool, action(third).args) not in [(a.tool, a.args) for a in (action(first), action(other))]


def test_it_begins_as_the_first_did_and_departs_where_that_was_least_sure(loaded: LoadedModel) -> None:
    policy = LocalPolicy(loaded, session="s", sampling=Sampling())
    first = say(policy)
    other = say(policy, [action(first)])
    chosen = [place for place, sampled in enumerate(first.sampled) if sampled]
    doubtful = sorted(chosen, key=lambda place: first.logprobs[place])[:4]
    departed = next(
        n for n, pair in enumerate(zip(first.token_ids, other.token_ids, strict=False)) if len(set(pair)) > 1
    )
    assert departed in doubtful
    assert other.logprobs[:departed] == pytest.approx(first.logprobs[:departed], abs=1e-4)
    assert other.logprobs[departed] < 0


def test_it_says_the_same_each_time_and_its_tokens_are_paid_for(loaded: LoadedModel) -> None:
    policy = LocalPolicy(loaded, session="s", sampling=Sampling())
    first, told = say(policy), list[str]()
    other = say(policy, [action(first)], told=told)
    again = say(LocalPolicy(loaded, session="other", sampling=Sampling()), [action(first)])
    assert again.token_ids == other.token_ids
    assert "".join(told) == first.text, "who watches is not told of the same text twice"
    assert other.usage.generated > len(other.token_ids)


def test_what_did_not_fail_is_said_as_before(loaded: LoadedModel) -> None:
    policy = LocalPolicy(loaded, session="s", sampling=Sampling())
    first = say(policy)
    unlike = Action("x", "read_file", {"path": "nothing like it", "start": 1, "lines": None})
    assert say(policy, [unlike]).token_ids == first.token_ids


def test_where_there_is_no_other_action_it_is_said_again(loaded: LoadedModel) -> None:
    args = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    only = {
        "type": "object", "required": ["thought", "tool", "args"], "additionalProperties": False,
        "properties": {"thought": {"enum": ["a", "b"]}, "tool": {"const": "list_files"}, "args": args},
    }  # fmt: skip
    policy = LocalPolicy(loaded, session="s", sampling=Sampling())
    first = say(policy, schema={"anyOf": [only]})
    assert say(policy, [action(first)], schema={"anyOf": [only]}).text == first.text


def test_an_action_that_repeats_itself_without_end_is_taken_back_to_where_it_began_to() -> None:
    """The model of this test says one token for ever, until it may not."""
    said: list[Request] = []

    def complete(request: Request) -> Completion:
        said.append(request)
        ids = [id for id, _, _ in request.said]
        return _completion([*ids, 7, 8], "stop")

    looping = _completion([1, 2, 3, *(4, 5) * 30], "length")
    request = Request("s", [9], tool_schema(), max_tokens=100)
    done = otherwise(complete, request, looping, (), _Letters())  # pyright: ignore[reportArgumentType]
    assert [id for id, _, _ in said[0].said] == [1, 2, 3, 4, 5]
    assert said[0].barred == {4}
    assert (done.finish, done.token_ids) == ("stop", (1, 2, 3, 4, 5, 7, 8))
    assert done.usage.generated == 7 + 58


def test_a_loop_is_left_at_a_token_that_was_chosen() -> None:
    looping = replace(_completion([1, *(2, 3, 4) * 12], "length"), sampled=(True, *(False, True, True) * 12))
    asked: list[Request] = []

    def complete(request: Request) -> Completion:
        asked.append(request)
        return looping

    otherwise(complete, Request("s", [9], tool_schema(), max_tokens=100), looping, (), _Letters())  # pyright: ignore[reportArgumentType]
    assert [len(request.said) for request in asked] == [5]


def test_all_attempts_together_stay_within_the_limit() -> None:
    said = '{"thought":"","tool":"finish","args":{}}'
    first = replace(_completion([1, 2, 3, 4], "stop"), text=said, logprobs=(-0.1, -2.0, -1.0, -0.1))
    limits: list[int] = []

    def complete(request: Request) -> Completion:
        limits.append(request.max_tokens)
        return first

    request = Request("s", [9], tool_schema(), max_tokens=8)
    done = otherwise(complete, request, first, [Action("", "finish", {})], _Letters())  # pyright: ignore[reportArgumentType]
    assert limits == [1 + 4, 2 + 1], "the places 1 and 2, with what is left after four tokens and after seven"
    assert done.text == said


@pytest.mark.parametrize("ids", [[1, 2, 3, *(4, 5) * 7], [1, *(4,) * 30, 2], list(range(60))])
def test_what_was_cut_without_a_loop_stays_cut(ids: list[int]) -> None:
    cut = _completion(ids, "length")
    request = Request("s", [9], tool_schema(), max_tokens=100)
    assert otherwise(_never, request, cut, (), _Letters()) == cut  # pyright: ignore[reportArgumentType]


def test_a_loop_that_only_leads_to_others_is_cut_as_before() -> None:
    looping = _completion([1, *(4, 5) * 30], "length")
    request = Request("s", [9], tool_schema(), max_tokens=100)
    done = otherwise(lambda _: looping, request, looping, (), _Letters())  # pyright: ignore[reportArgumentType]
    assert (done.finish, done.token_ids) == ("length", looping.token_ids)
    assert done.usage.generated > looping.usage.generated


def _never(request: Request) -> Completion:
    raise AssertionError(f"nothing is to be said again: {request}")


def _completion(ids: list[int], finish: Literal["stop", "length"]) -> Completion:
    usage = TokenUsage(sampled=len(ids))
    return Completion("{}", "", finish, tuple(ids), (True,) * len(ids), (-0.1,) * len(ids), usage)


class _Letters:
    """A tokenizer of one letter a token."""

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(97 + id) for id in ids)

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 97 for letter in text]
