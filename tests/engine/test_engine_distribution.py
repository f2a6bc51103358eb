"""What is sampled under a grammar is distributed as the model says, among what the grammar allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from scipy.stats import chi2_contingency

from agent.engine.decode import Request
from agent.engine.models import LoadedModel
from agent.engine.network import Row
from agent.engine.sampling import Sampling
from tests.engine.conftest import engine_of

PROPERTIES: dict[str, Any] = {
    "where": {"enum": ["notes.txt", "out.txt", "folder"]},
    "sure": {"type": "boolean"},
    "line": {"type": "integer", "minimum": 0, "maximum": 2},
}
SCHEMA: Mapping[str, Any] = {
    "type": "object", "properties": PROPERTIES, "required": list(PROPERTIES), "additionalProperties": False,
}  # fmt: skip
SAID = '{"where":"out.txt","sure":true,"line":1}\n{"where":"folder","sure":false,"line":2}\n'
"""In the prompt, so that there is something to guess with."""
SAMPLES = 600


def by_the_engine(loaded: LoadedModel, temperature: float, *, drafts: bool) -> Counter[str]:
    engine, prompt = engine_of(loaded, drafts=drafts), loaded.tokenizer.encode(SAID)
    said = [
        engine.complete(Request("s", prompt, SCHEMA, 60, Sampling(temperature=temperature, seed=seed)))
        for seed in range(SAMPLES)
    ]
    wrong = sum(each.usage.drafted - each.usage.accepted for each in said)
    assert (wrong > SAMPLES / 4) is drafts, "guesses that were wrong are what could spoil the distribution"
    return Counter(each.text for each in said)


def by_rejection(loaded: LoadedModel) -> Counter[str]:
    """The textbook way: draw from all tokens, throw away what the grammar does not allow, draw again."""
    engine, prompt = engine_of(loaded), loaded.tokenizer.encode(SAID)
    randomness = torch.Generator().manual_seed(2)

    @cache
    def probabilities(ids: tuple[int, ...]) -> torch.Tensor:
        with torch.inference_mode():
            return engine.network.forward([Row(engine.network.new_cache(), [*prompt, *ids])])[0].softmax(0)

    found: Counter[str] = Counter()
    for _ in range(SAMPLES):
        matcher, ids = engine.vocabulary.matcher(SCHEMA), []
        while not matcher.finished:
            mask, drawn = matcher.mask(), []
            while not drawn:  # many at once, in order: most are thrown away
                draws = torch.multinomial(probabilities(tuple(ids)), 2000, replacement=True, generator=randomness)
                drawn = [id for id in draws.tolist() if mask[id >> 3] >> (id & 7) & 1]
            id = drawn[0]
            if id == engine.vocabulary.end_id:
                break
            matcher.consume([id])
            ids.append(id)
        found[b"".join(engine.vocabulary.bytes_of(id) for id in ids).decode()] += 1
    return found


def p_value(a: Counter[str], b: Counter[str]) -> float:
    """Of the chi-square test that two samples come from one distribution; rare texts are counted together."""
    common = [text for text in a | b if a[text] + b[text] >= 20]
    rows = [[sample[text] for text in common] + [sample.total() - sum(sample[t] for t in common)] for sample in (a, b)]
    columns = [column for column in zip(*rows, strict=True) if sum(column)]
    return float(chi2_contingency(list(zip(*columns, strict=True))).pvalue)


def test_constrained_sampling_cannot_be_told_from_rejection_sampling(llama: LoadedModel) -> None:
    expected = by_rejection(llama)
    assert len(expected) > 5, "the model is not sure of anything"
    for drafts in (False, True):
        assert p_value(by_the_engine(llama, 1.0, drafts=drafts), expected) > 0.01
    assert p_value(by_the_engine(llama, 0.4, drafts=True), expected) < 1e-4, "the test tells what does differ"
