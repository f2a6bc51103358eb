"""What a start leaves for the next one: rounded weights and the system turn's keys and values. Neither may change a
token, and neither may be trusted when it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agent.engine import rounded
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.engine.sampling import Sampling
from agent.policies.local import LocalPolicy
from agent.types import Completion, Message, Prompt
from tests.models import build_adapter, build_model

FolderOf = Callable[[str], Path]
IDS = [5, 9, 200, 31, 77, 12, 150, 42, 8, 19, 260, 3]
SYSTEM = "You are an agent that works in a folder. Answer with one JSON object, and say what you do. " * 3
SCHEMA = {
    "type": "object",
    "properties": {"thought": {"type": "string", "maxLength": 40}, "count": {"type": "integer", "maximum": 99}},
    "required": ["thought", "count"],
    "additionalProperties": False,
}


def load(folder: Path, cache: Path, adapter: Path | None = None, dtype: str = "int8") -> LoadedModel:
    return load_model(str(folder), adapter=adapter, dtype=dtype, device="cpu", cache=cache)  # pyright: ignore[reportArgumentType]


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model.forward([Row(loaded.model.new_cache(), IDS)])[0]


def answer(loaded: LoadedModel, cache: Path | None, system: str = SYSTEM) -> Completion:
    policy = LocalPolicy(loaded, session="s", sampling=Sampling(temperature=0.7, seed=3), cache=cache)
    prompt = Prompt((Message("system", system, "system"), Message("user", "Goal: count the files.", "goal")))
    return policy.act(
        prompt,
        SCHEMA,
        step=1,
        max_tokens=60,
        deadline=float("inf"),
        on_text=lambda _: None,
        cancelled=lambda: False,
    )


# --- rounded weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_weights_kept_by_a_former_start_are_the_same_weights(
    family: str, model_folder: FolderOf, tmp_path: Path
) -> None:
    folder = model_folder(family)
    adapter = build_adapter(tmp_path / "adapter", folder)
    first, plain = load(folder, tmp_path, adapter), load(folder, tmp_path)
    kept = list((tmp_path / "rounded").glob("*.safetensors"))
    assert len(kept) == 2, "with the adapter and without are two models"
    assert torch.equal(logits(load(folder, tmp_path, adapter)), logits(first))
    assert torch.equal(logits(load(folder, tmp_path)), logits(plain))
    assert not torch.equal(logits(first), logits(plain))


def test_the_kept_weights_are_what_is_used(model_folder: FolderOf, tmp_path: Path) -> None:
    folder = model_folder("llama")
    first = load(folder, tmp_path)
    [file] = (tmp_path / "rounded").glob("*.safetensors")
    weights = rounded.read(file)
    assert weights is not None
    halved = {name: each._replace(scale=each.scale.clone() / 2) for name, each in weights.items()}
    rounded.write(file, halved)
    assert not torch.equal(logits(load(folder, tmp_path)), logits(first))


def test_a_file_cut_short_is_made_again(model_folder: FolderOf, tmp_path: Path) -> None:
    folder = model_folder("llama")
    first = logits(load(folder, tmp_path))
    [file] = (tmp_path / "rounded").glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert torch.equal(logits(load(folder, tmp_path)), first)
    assert file.read_bytes() == whole


def test_another_config_over_the_same_weights_is_another_model(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model")
    load(folder, tmp_path / "cache")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    assert load(folder, tmp_path / "cache").model.layers == 2
    assert len(list((tmp_path / "cache" / "rounded").iterdir())) == 2


def test_only_a_few_models_are_kept_and_those_used_last(model_folder: FolderOf, tmp_path: Path) -> None:
    folder = model_folder("llama")
    adapters = [build_adapter(tmp_path / f"adapter{n}", folder, seed=n) for n in range(rounded.KEPT + 1)]
    for age, adapter in enumerate(adapters[:-1]):
        load(folder, tmp_path, adapter)
        newest = max((tmp_path / "rounded").iterdir(), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (1e9 + age, 1e9 + age))
    oldest = min((tmp_path / "rounded").iterdir(), key=lambda file: file.stat().st_mtime)
    load(folder, tmp_path, adapters[-1])
    assert len(list((tmp_path / "rounded").iterdir())) == rounded.KEPT
    assert not oldest.exists()


# --- the system turn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_kept_system_turn_changes_no_token(dtype: str, family: str, model_folder: FolderOf, tmp_path: Path) -> None:
    loaded = load(model_folder(family), tmp_path, dtype=dtype)
    without, first, second = (answer(loaded, cache) for cache in (None, tmp_path, tmp_path))
    assert without.usage.cached == first.usage.cached == 0
    assert second.usage.cached > len(SYSTEM) // 8
    assert second.prompt_digest == first.prompt_digest
    for each in (first, second):
        assert (each.text, each.token_ids, each.logprobs) == (without.text, without.token_ids, without.logprobs)


def test_a_kept_system_turn_serves_no_other_prompt_and_no_other_model(model_folder: FolderOf, tmp_path: Path) -> None:
    folder = model_folder("llama")
    answer(load(folder, tmp_path), tmp_path)
    assert answer(load(folder, tmp_path), tmp_path, SYSTEM + "Be brief.").usage.cached == 0
    assert answer(load(folder, tmp_path, dtype="fp32"), tmp_path).usage.cached == 0
    adapted = load(folder, tmp_path, build_adapter(tmp_path / "adapter", folder))
    assert answer(adapted, tmp_path).usage.cached == 0


def test_a_damaged_file_of_the_system_turn_is_not_used(model_folder: FolderOf, tmp_path: Path) -> None:
    loaded = load(model_folder("llama"), tmp_path)
    first = answer(loaded, tmp_path)
    [file] = (tmp_path / "prefixes").glob("*.kv")
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 1
    file.write_bytes(damaged)
    again = answer(loaded, tmp_path)
    assert again.usage.cached == 0
    assert again.token_ids == first.token_ids
    file.write_bytes(b"")
    assert answer(loaded, tmp_path).token_ids == first.token_ids


def test_a_cache_folder_that_cannot_be_written_stops_nothing(model_folder: FolderOf, tmp_path: Path) -> None:
    loaded = load(model_folder("llama"), tmp_path)
    (tmp_path / "file").write_text("not a folder")
    assert answer(loaded, tmp_path / "file").token_ids == answer(loaded, None).token_ids


def test_no_memory_for_a_copy_of_the_system_turn_stops_nothing(
    model_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(model_folder("llama"), tmp_path)
    without = answer(loaded, None)

    def save(_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr("safetensors.torch.save", save)
    assert answer(loaded, tmp_path).token_ids == without.token_ids
    assert list((tmp_path / "prefixes").glob("*")) == []


def test_threads_are_told_to_sleep_before_torch_is_imported(tmp_path: Path) -> None:
    """Read by OpenMP at torch's import, so by then it must be there: for a training too, which loads no network."""
    build_model(tmp_path / "tiny")
    code = """
import os, sys
from pathlib import Path
from agent.engine.finding import find_model
find_model(sys.argv[1], cache=Path(sys.argv[2]))
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code, str(tmp_path / "tiny"), str(tmp_path / "cache")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["PASSIVE", "False"]
