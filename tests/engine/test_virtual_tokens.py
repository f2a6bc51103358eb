"""Prefix and prompt tuning run as peft runs them, and everything the engine does with caches holds behind them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from agent.engine.adapter import Adapter
from agent.engine.chat import Chat
from agent.engine.decode import Request
from agent.engine.ensemble import describe_ensemble, load_ensemble
from agent.engine.kvcache import KVCache
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.engine.prefixes import PrefixFiles
from agent.engine.virtual import with_virtual_tokens
from agent.types import Message, Prompt, WhetstoneError
from tests.engine.conftest import engine_of
from tests.engine.test_engine_equalities import logits_in_pieces
from tests.models import FAMILIES, build_model, tool_schema

VIRTUAL = 5
IDS = random.Random(7).choices(range(300), k=60)


def _peft_model(base: Path, method: str):
    """The base with virtual tokens far from zero, as peft makes them."""
    import peft
    from transformers import AutoModelForCausalLM

    kind = peft.PrefixTuningConfig if method == "prefix" else peft.PromptTuningConfig
    config = kind(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_(0, 0.7)
    return model.eval()


@pytest.fixture(scope="module", params=[(f, m) for f in FAMILIES for m in ("prefix", "prompt")], ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a base and of an adapter made of virtual tokens."""
    family, method = request.param
    folder = tmp_path_factory.mktemp(f"{family}-{method}")
    base = build_model(folder / "base", family)
    _peft_model(base, method).save_pretrained(str(folder / "adapter"))
    return base, folder / "adapter"


def _load(made: tuple[Path, Path], tmp_path: Path) -> LoadedModel:
    return load_model(str(made[0]), adapter=made[1], dtype="fp32", cache=tmp_path / "cache")


def test_logits_are_those_of_peft(made: tuple[Path, Path], tmp_path: Path) -> None:
    method = "prefix" if "prefix" in made[1].parent.name else "prompt"
    with torch.inference_mode():
        expected = _peft_model(made[0], method)(torch.tensor([IDS])).logits[0, -1]
    loaded = _load(made, tmp_path)
    torch.testing.assert_close(logits_in_pieces(loaded.model, IDS, [])[0], expected, rtol=1e-4, atol=1e-4)
    plain = load_model(str(made[0]), dtype="fp32", cache=tmp_path / "cache")
    assert not torch.allclose(logits_in_pieces(plain.model, IDS, [])[0], expected, atol=1e-2)
    assert loaded.model.context_tokens == plain.model.context_tokens - VIRTUAL


def test_a_cache_may_be_cut_copied_and_kept(made: tuple[Path, Path], tmp_path: Path) -> None:
    network = _load(made, tmp_path).model
    whole = logits_in_pieces(network, IDS, [])
    torch.testing.assert_close(logits_in_pieces(network, IDS, [1, 20, 59]), whole, rtol=1e-4, atol=1e-4)
    cache = network.new_cache()
    files = PrefixFiles(tmp_path / "prefixes", ["key"])
    with torch.inference_mode():
        network.forward([Row(cache, [*IDS[:40], 3, 5])])
        cache.ids += [*IDS[:40], 3, 5]
        files.write(IDS[:40], cache)
        kept = PrefixFiles(tmp_path / "prefixes", ["key"]).read(IDS[:40])
        assert kept is not None
        branched = cache.branch(40)
        cache.crop(40)
        for found in (cache, branched, kept):
            assert found.ids == IDS[:40]
            torch.testing.assert_close(network.forward([Row(found, IDS[40:])]), whole, rtol=1e-4, atol=1e-4)


def test_completions_do_not_depend_on_what_was_cached(made: tuple[Path, Path], tmp_path: Path) -> None:
    loaded = _load(made, tmp_path)
    kept, plain = engine_of(loaded), engine_of(loaded, drafts=False, fast_forward=False)
    chat = Chat(loaded.tokenizer)
    messages = [Message("system", "You are an agent.", "system"), Message("user", "Count the lines.", "goal")]
    for step in range(3):
        ids = chat.encode(Prompt(tuple(messages)))
        asked = [Request(session, ids, tool_schema(), max_tokens=60) for session in ("one", "two")]
        together = kept.complete_many(asked)
        plain.forget("one")
        alone = plain.complete(asked[0])
        assert [c.token_ids for c in together] == [alone.token_ids, alone.token_ids]
        assert together[0].usage.prompt == len(ids)
        text = together[0].text
        messages += [
            Message("assistant", text, "history", step, together[0].token_ids),
            Message("user", f"Observation {step}: ok", "history", step),
        ]


def test_it_runs_in_int8_too(made: tuple[Path, Path], tmp_path: Path) -> None:
    exact = logits_in_pieces(_load(made, tmp_path).model, IDS, [])[0]
    for _ in range(2):  # rounded, then from what was kept
        loaded = load_model(str(made[0]), adapter=made[1], dtype="int8", cache=tmp_path / "cache")
        found = logits_in_pieces(loaded.model, IDS, [30])[0]
        assert torch.cosine_similarity(found, exact, 0) > 0.98


def test_what_does_not_fit_is_one_sentence(made: tuple[Path, Path], tmp_path: Path) -> None:
    loaded = _load(made, tmp_path)
    assert loaded.adapter is not None
    other = load_model(str(build_model(tmp_path / "wide", hidden_size=64)), dtype="fp32", cache=tmp_path / "cache")
    with pytest.raises(WhetstoneError, match="give the model it belongs to"):
        with_virtual_tokens(
            other.model,  # pyright: ignore[reportArgumentType]
            Adapter(made[1], loaded.adapter.config, ""),
            {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2},
        )
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "ensemble.json").write_text(json.dumps(describe_ensemble([made[1], made[1]])))
    with pytest.raises(WhetstoneError, match="virtual tokens and cannot be one of an ensemble"):
        load_ensemble(tmp_path / "e", loaded.lineage, lambda member, _: _load((made[0], member), tmp_path))


def test_a_cache_without_virtual_tokens_has_nothing_before_its_ids() -> None:
    cache = KVCache(2)
    assert cache.before == 0
    assert Row(cache, [1, 2]).start == 0
