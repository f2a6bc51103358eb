"""Guessing ahead changes how fast an action is decoded, never which."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.engine.chat import Chat
from agent.engine.decode import Engine, Request
from agent.engine.drafts import DRAFT_TOKENS, PromptLookup
from agent.engine.models import LoadedModel, load_model
from agent.engine.sampling import Sampling
from agent.types import Completion, Message, Prompt
from tests.engine.conftest import engine_of
from tests.models import FAMILIES, build_adapter, tool_schema

SCHEMA = tool_schema()
SAMPLINGS = (Sampling(), Sampling(temperature=1.0, seed=11))
TEXTS = ("Read notes.txt", "Write 42 to out.txt, the file and the answer " * 3)


def test_what_followed_the_longest_known_run_is_proposed() -> None:
    lookup = PromptLookup()
    lookup.extend([1, 2, 3, 4, 5, 6, 9, 9, 3, 4, 7, 8, 0])
    assert lookup.propose() == []
    lookup.extend([3, 4])
    assert lookup.propose() == [7, 8], "of two places, the later"
    lookup.extend([5])
    assert lookup.propose() == [6, 9, 9, 3][: DRAFT_TOKENS[3]], "a longer run finds the earlier"


def test_a_lookup_built_bit_by_bit_proposes_what_one_built_at_once_does() -> None:
    ids = [n * n % 7 for n in range(80)]
    grown = PromptLookup()
    for start in range(0, len(ids), 3):
        grown.extend(ids[start : start + 3])
        whole = PromptLookup()
        whole.extend(ids[: start + 3])
        assert grown.propose() == whole.propose()


@pytest.fixture(scope="module", params=[*itertools.product(FAMILIES, (False, True))], ids=str)
def model(
    request: pytest.FixtureRequest,
    model_folder: Callable[[str], Path],
    engine_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> LoadedModel:
    family, adapted = request.param
    folder = model_folder(family)
    adapter = build_adapter(tmp_path_factory.mktemp("adapter"), folder) if adapted else None
    return load_model(str(folder), adapter=adapter, dtype="fp32", device="cpu", cache=engine_cache)


def sessions(model: LoadedModel, sampling: Sampling, engines: Iterator[Engine], *, together: bool) -> list[Completion]:
    """Two sessions of two steps; each step is decoded by the next of `engines`."""
    chat = Chat(model.tokenizer)
    chats = [[Message("system", "You are an agent.", "system"), Message("user", t, "goal")] for t in TEXTS]
    found: list[Completion] = []
    for step in range(2):
        requests = [
            Request(
                f"s{n}",
                chat.encode(Prompt(tuple(messages))),
                SCHEMA,
                max_tokens=40,
                sampling=replace(sampling, step=step, stream=str(n)),
            )
            for n, messages in enumerate(chats)
        ]
        engine = next(engines)
        completions = engine.complete_many(requests) if together else [engine.complete(one) for one in requests]
        for messages, completion in zip(chats, completions, strict=True):
            messages.append(Message("assistant", completion.text, "history", step, completion.token_ids))
            messages.append(
                Message("user", f"Observation {step}: notes.txt has {completion.text[:30]}", "history", step)
            )
        found += completions
    return found


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=("greedy", "sampled"))
def test_every_combination_of_cache_batch_forced_tokens_and_drafts_gives_the_same_tokens(
    model: LoadedModel, sampling: Sampling
) -> None:
    def fresh(**options: bool) -> Iterator[Engine]:
        while True:
            yield engine_of(model, **options)

    plain = sessions(model, sampling, fresh(fast_forward=False, drafts=False), together=False)
    drafted = 0
    for cache, batch, forced, drafts in itertools.product((False, True), repeat=4):
        options = {"fast_forward": forced, "drafts": drafts}
        engines = itertools.repeat(engine_of(model, **options)) if cache else fresh(**options)
        found = sessions(model, sampling, engines, together=batch)
        assert [c.token_ids for c in found] == [c.token_ids for c in plain], (cache, batch, forced, drafts)
        assert [c.sampled for c in found] == [c.sampled for c in plain]
        for one, reference in zip(found, plain, strict=True):
            assert one.logprobs == pytest.approx(reference.logprobs, abs=1e-3)
        assert drafts or not any(c.usage.drafted for c in found)
        drafted += sum(c.usage.drafted for c in found)
    assert drafted > 0, "otherwise nothing was tried"


def test_accepted_tokens_are_not_read_again(model: LoadedModel) -> None:
    chat = Chat(model.tokenizer)
    engine = engine_of(model)
    ids = chat.encode(Prompt((Message("user", "the file and the answer " * 8, "goal"),)))
    first = engine.complete(Request("s", ids, SCHEMA, 60))
    longer = [*ids, *first.token_ids, *model.tokenizer.encode(" and more")]
    second = engine.complete(Request("s", longer, SCHEMA, 60))
    chosen = max(place for place, sampled in enumerate(first.sampled) if sampled)
    assert first.usage.accepted > 0
    assert second.usage.cached >= len(ids) + chosen, "all but what nothing was chosen after"
    assert second.token_ids == engine_of(model, drafts=False).complete(Request("s", longer, SCHEMA, 60)).token_ids
