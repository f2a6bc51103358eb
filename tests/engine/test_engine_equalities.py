"""Fast paths give what the plain path gives: in float32, the same tokens."""

from __future__ import annotations

import random

import pytest
import torch

from agent.engine.chat import Chat
from agent.engine.decode import Request
from agent.engine.models import LoadedModel
from agent.engine.network import Network, Row
from agent.engine.sampling import Sampling
from agent.types import Message, Prompt
from tests.engine.conftest import engine_of
from tests.models import tool_schema

SCHEMA = tool_schema()
SAMPLINGS = [Sampling(), Sampling(temperature=1.0, seed=3), Sampling(temperature=0.8, top_p=0.9, seed=4)]


def request(loaded: LoadedModel, text: str, *, session: str = "s", sampling: Sampling = SAMPLINGS[0]) -> Request:
    prompt = Prompt((Message("system", "You are an agent.", "system"), Message("user", text, "goal")))
    ids = Chat(loaded.tokenizer).encode(prompt)
    return Request(session, ids, SCHEMA, max_tokens=120, sampling=sampling)


def logits_in_pieces(network: Network, ids: list[int], cuts: list[int]) -> torch.Tensor:
    cache = network.new_cache()
    with torch.inference_mode():
        for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
            logits = network.forward([Row(cache, ids[start:end])])
            cache.ids += ids[start:end]
    return logits


def test_forward_equals_transformers(loaded: LoadedModel) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(loaded.folder, dtype=torch.float32)
    ids = random.Random(0).choices(range(300), k=70)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(logits_in_pieces(loaded.model, ids, [])[0], expected, rtol=1e-4, atol=1e-4)


def test_logits_do_not_depend_on_where_the_prompt_is_cut(loaded: LoadedModel) -> None:
    ids = random.Random(1).choices(range(300), k=90)
    whole = logits_in_pieces(loaded.model, ids, [])
    for cuts in ([1], [89], [30, 31, 60], list(range(1, 90))):
        torch.testing.assert_close(logits_in_pieces(loaded.model, ids, cuts), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_cached_steps_equal_uncached_steps(loaded: LoadedModel, sampling: Sampling) -> None:
    chat = Chat(loaded.tokenizer)
    kept = engine_of(loaded)
    messages = [Message("system", "You are an agent.", "system"), Message("user", "Count the lines.", "goal")]
    previous = 0
    for step in range(4):
        ids = chat.encode(Prompt(tuple(messages)))
        own = Request("s", ids, SCHEMA, max_tokens=60, sampling=Sampling(**{**vars(sampling), "step": step}))
        cached, uncached = kept.complete(own), engine_of(loaded).complete(own)
        assert cached.token_ids == uncached.token_ids
        assert cached.logprobs == pytest.approx(uncached.logprobs, abs=1e-3)
        assert uncached.usage.cached == 0
        assert cached.usage.prompt == cached.usage.cached + cached.usage.prefilled == len(ids)
        assert step == 0 or cached.usage.prefilled < len(ids) - previous + 4, "only what is new is read"
        previous = len(ids)
        messages += [
            Message("assistant", cached.text, "history", step, cached.token_ids),
            Message("user", f"Observation {step}: ok", "history", step),
        ]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_fast_forward_equals_step_by_step(loaded: LoadedModel, sampling: Sampling) -> None:
    for text in ("Read notes.txt", "Write 42 to out.txt", "Was ist das?"):
        own = request(loaded, text, sampling=sampling)
        fast, slow = engine_of(loaded).complete(own), engine_of(loaded, fast_forward=False).complete(own)
        assert fast.token_ids == slow.token_ids
        assert fast.sampled == slow.sampled
        assert fast.usage.forced > 0


def test_forced_tokens_are_what_the_mask_leaves(loaded: LoadedModel) -> None:
    completion = engine_of(loaded).complete(request(loaded, "Read notes.txt", sampling=SAMPLINGS[1]))
    matcher = engine_of(loaded).vocabulary.matcher(SCHEMA)
    end = Chat(loaded.tokenizer).end_id
    for id, sampled in zip(completion.token_ids, completion.sampled, strict=True):
        allowed = [n * 8 + bit for n, byte in enumerate(matcher.mask()) for bit in range(8) if byte >> bit & 1]
        assert id in allowed
        if not sampled and completion.finish == "stop":
            assert allowed == [id]
        if id != end:
            matcher.consume([id])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_batched_equals_single(loaded: LoadedModel, sampling: Sampling) -> None:
    texts = ["Read notes.txt", "x", "Write 42 to out.txt and then " * 12, "Was ist das?"]
    own = [request(loaded, text, session=text, sampling=sampling) for text in texts]
    together = engine_of(loaded, prefill_tokens=40).complete_many(own)
    alone = [engine_of(loaded).complete(one) for one in own]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert [c.text for c in together] == [c.text for c in alone]


def test_a_shared_system_prompt_is_read_once(loaded: LoadedModel) -> None:
    engine = engine_of(loaded)
    system = Message("system", "You are an agent with many rules. " * 10, "system")
    chat = Chat(loaded.tokenizer)
    prompts = [chat.encode(Prompt((system, Message("user", text, "goal")))) for text in ("Read a.txt", "Count b.csv")]
    first, second = (engine.complete(Request(f"s{n}", ids, SCHEMA, 60)) for n, ids in enumerate(prompts))
    assert first.usage.cached == 0
    assert second.usage.prefilled < 20
    assert second.token_ids == engine_of(loaded).complete(Request("s", prompts[1], SCHEMA, 60)).token_ids


def test_a_changed_history_is_noticed_and_read_again(loaded: LoadedModel) -> None:
    engine = engine_of(loaded)
    first = request(loaded, "Read notes.txt and tell me what it says")
    engine.complete(first)
    changed = Request(**{**vars(first), "ids": [*first.ids[:20], 7, *first.ids[21:]]})
    completion = engine.complete(changed)
    assert completion.usage.cached == 20
    assert completion.token_ids == engine_of(loaded).complete(changed).token_ids
