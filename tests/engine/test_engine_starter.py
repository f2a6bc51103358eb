"""The embedded model itself: its tokenizer, its template, its precision, and one action of a whole policy."""

from __future__ import annotations

import importlib.util
import json
import random
import time
from pathlib import Path

import jsonschema
import pytest

from agent.engine.chat import Chat
from agent.engine.finding import STARTER_PACKAGE
from agent.engine.models import LoadedModel, load_model
from agent.engine.sampling import Sampling
from agent.policies.local import LocalPolicy
from agent.types import Message, Prompt
from tests.models import tool_schema

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(STARTER_PACKAGE) is None, reason=f"the package {STARTER_PACKAGE} is not installed"
)

UNSPELLABLE = {4, 6, 19, 20, 22, 29}
"""The code points below U+40000 whose bytes the starter's vocabulary lacks."""


@pytest.fixture(scope="module")
def starter_cache(request: pytest.FixtureRequest) -> Path:
    cache = request.config.cache
    assert cache is not None
    return Path(cache.mkdir("starter"))  # converting takes half a minute, so it is kept between test runs


@pytest.fixture(scope="module")
def starter(starter_cache: Path) -> LoadedModel:
    return load_model("starter", cache=starter_cache)


def test_every_character_of_the_assigned_planes_survives(starter: LoadedModel) -> None:
    tokenizer = starter.tokenizer
    points = [p for p in range(0x40000) if not 0xD800 <= p < 0xE000 and p not in UNSPELLABLE]
    random.Random(0).shuffle(points)
    for start in range(0, len(points), 4096):
        text = "".join(map(chr, points[start : start + 4096]))
        assert tokenizer.decode(tokenizer.encode(text)) == text
    for text in (
        "👩‍👩‍👧‍👦 日本語 한국어 العربية",
        "\x00\x01\x7f\x1b[31m",
        "a  b\r\n\t c",
        "<|im_start|>system\n<repo_name>",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode(text))


def test_what_it_cannot_spell_is_shown_and_never_dropped(starter: LoadedModel) -> None:
    for point in [*UNSPELLABLE, 0x40000, 0xBFFFF]:
        assert starter.tokenizer.decode(starter.tokenizer.encode(f"a{chr(point)}b")) == "a\ufffdb"


def test_digits_are_single_tokens_as_in_training(starter: LoadedModel) -> None:
    # "  12" is a double blank, "1" and "2"; without the digit split it would be a blank, another blank with "1", "2".
    assert [starter.tokenizer.decode([id]) for id in starter.tokenizer.encode("x  12")] == ["x", "  ", "1", "2"]


def test_its_template_is_chatml_with_its_own_end_token(starter: LoadedModel) -> None:
    chat = Chat(starter.tokenizer)
    ids = chat.encode(Prompt((Message("system", "S", "system"), Message("user", "U", "goal"))))
    text = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert starter.tokenizer.decode(ids) == text
    assert [id for id in ids if id in starter.tokenizer.control_ids] == [1, 2, 1, 2, 1]
    assert (chat.end_id, chat.thinks) == (2, False)


def test_int8_says_what_float32_says(starter: LoadedModel) -> None:
    assert starter.dtype == "int8"
    agreement = int(starter.notes[-1].split("at ")[1].split("%")[0])
    assert agreement >= 90


def test_it_still_knows_english(starter: LoadedModel) -> None:
    """A wrong rotation or a swapped weight leaves a model that runs and says nothing; this notices."""
    policy = LocalPolicy(starter, session="s", sampling=Sampling())
    prompt = Prompt((Message("user", "What is the capital of France? Answer in JSON.", "goal"),))
    schema = {"type": "object", "properties": {"answer": {"type": "string", "maxLength": 40}}, "required": ["answer"]}
    completion = policy.act(
        prompt, schema, step=1, max_tokens=40, deadline=time.monotonic() + 120, on_text=lambda _: None, cancelled=_no
    )
    assert "Paris" in json.loads(completion.text)["answer"]


def test_a_policy_acts_step_after_step_from_its_cache(starter: LoadedModel) -> None:
    policy = LocalPolicy(starter, session="s", sampling=Sampling(temperature=0.7, seed=1))
    messages = [Message("system", "You are an agent with tools.", "system"), Message("user", "Read notes.txt", "goal")]
    for step in (1, 2):
        completion = policy.act(
            Prompt(tuple(messages)),
            tool_schema(),
            step=step,
            max_tokens=60,
            deadline=time.monotonic() + 120,
            on_text=lambda _: None,
            cancelled=_no,
        )
        jsonschema.Draft202012Validator(tool_schema()).validate(json.loads(completion.text))
        assert step == 1 or completion.usage.cached > completion.usage.prefilled
        messages += [
            Message("assistant", completion.text, "history", step, completion.token_ids),
            Message("user", "observation", "history", step),
        ]
    described = policy.describe()
    assert described["name"] == "starter"
    assert len(described["base_digest"]) == len(described["tokenizer_digest"]) == 64
    json.dumps(described)
    policy.close()


def _no() -> bool:
    return False
