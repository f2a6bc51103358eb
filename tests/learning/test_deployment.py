"""Smaller models: int8 on disk says what it said before, and a model without some of its layers heals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agent.engine.adapter import CARD
from agent.engine.llama import LlamaNetwork
from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Network, Row
from agent.engine.quantized_files import FILE, int8_weights, whole
from agent.learning.combining import write_merged
from agent.learning.learner import Base, mapped_weights
from agent.learning.pruning import block_influence, prune, table, write_without
from agent.learning.recipe import Recipe
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import random_examples
from tests.learning.test_adapters import World
from tests.models import build_adapter, build_model

IDS = list(range(5, 45))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def logits(network: Network) -> torch.Tensor:
    return network.forward([Row(network.new_cache(), IDS, wanted=len(IDS))])


def test_int8_on_disk_says_what_int8_of_the_merged_model_says(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    cache = world.folder / "cache"
    full = write_merged(world.folder / "full", world.base, entry, cache=cache)
    small = write_merged(world.folder / "small", world.base, entry, cache=cache, quantize="int8")
    file = small / FILE
    assert file.stat().st_size < 0.3 * (full / "model.safetensors").stat().st_size
    stored = load_file(file)
    found = int8_weights(small)
    assert found is not None
    assert int8_weights(full) is None
    weights, known = found
    assert not any(name.endswith("_proj.weight") for name in weights)
    config = json.loads((small / "config.json").read_text())
    fresh = dict(known)
    cpu = torch.device("cpu")
    loaded = logits(LlamaNetwork(config, weights, dtype="int8", device=cpu, known=known))
    assert known == fresh, "nothing is rounded at a start"
    again = logits(LlamaNetwork(config, whole(stored), dtype="int8", device=cpu))
    assert torch.allclose(loaded, again, atol=1e-4)
    exact = load_model(str(full), dtype="fp32", cache=cache).model
    rounded = logits(load_model(str(full), dtype="int8", cache=cache).model)
    assert (loaded - rounded).abs().max() < 2 * (rounded - logits(exact)).abs().max(), "but for the table of embeddings"
    before = load_model(str(world.model), dtype="fp32", cache=cache).model
    assert (loaded - logits(exact)).abs().mean() < 0.2 * (logits(before) - logits(exact)).abs().mean()


def test_an_int8_folder_is_a_model_like_any_other(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    cache = world.folder / "cache"
    small = write_merged(world.folder / "small", world.base, entry, cache=cache, quantize="int8")
    found = int8_weights(small)
    assert found is not None
    config = json.loads((small / "config.json").read_text())
    direct = LlamaNetwork(config, found[0], dtype="int8", device=torch.device("cpu"), known=found[1])
    loaded = load_model(str(small), dtype="int8", cache=cache)
    assert torch.equal(logits(loaded.model), logits(direct))
    assert not list((cache / "rounded").glob("*")), "what is rounded already is not kept twice"
    values = logits(load_model(str(small), dtype="fp32", cache=cache).model)
    assert torch.nn.functional.cosine_similarity(values, logits(loaded.model)).min() > 0.99
    full = write_merged(world.folder / "full", world.base, entry, cache=cache)
    adapter = build_adapter(world.folder / "another", full, seed=5)
    (adapter / CARD).unlink(missing_ok=True)  # of the same shapes, and nobody says of which weights
    for dtype in ("fp32", "int8"):
        adapted = logits(load_model(str(small), adapter=adapter, dtype=dtype, cache=cache).model)
        assert not torch.allclose(adapted, values, atol=1e-3)


def test_an_int8_folder_can_be_trained_on_and_other_formats_are_refused(world: World) -> None:
    entry = world.registry.add(world.trained(1))
    cache = world.folder / "cache"
    small = write_merged(world.folder / "small", world.base, entry, cache=cache, quantize="int8")
    full = write_merged(world.folder / "full", world.base, entry, cache=cache)
    before, after = mapped_weights(full), mapped_weights(small)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.allclose(weight.float(), after[name], atol=float(weight.abs().max()) / 127)
    for format, message in (("gguf", "convert_hf_to_gguf"), ("int4", "use --quantize int8")):
        with pytest.raises(WhetstoneError, match=message):
            write_merged(world.folder / format, world.base, entry, cache=cache, quantize=format)
        assert not (world.folder / format).exists()


def test_a_model_that_transformers_runs_is_not_stored_in_int8(tmp_path: Path) -> None:
    base = load_model(str(build_model(tmp_path / "base")), dtype="fp32", cache=tmp_path / "cache")
    config = json.loads((base.folder / "config.json").read_text())
    (base.folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    from agent.learning.adapters import Registry

    folder = build_adapter(tmp_path / "adapter", base.folder)
    from agent.engine.adapter import write_card

    write_card(folder, base.lineage)
    entry = Registry(tmp_path / "registry").add(folder)
    with pytest.raises(WhetstoneError, match="run by transformers"):
        write_merged(tmp_path / "out", base, entry, cache=tmp_path / "cache", quantize="int8")


def _five_layers(folder: Path) -> LoadedModel:
    """A model of five layers, the second and the fourth of which do next to nothing."""
    place = build_model(folder / "five", num_hidden_layers=5)
    weights = load_file(place / "model.safetensors")
    for name in weights:
        if name.startswith(("model.layers.1.", "model.layers.3.")) and ("o_proj" in name or "down_proj" in name):
            weights[name] *= 0.01
    from safetensors.torch import save_file

    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return load_model(str(place), dtype="fp32", cache=folder / "cache")


def test_influence_finds_the_layers_that_do_nothing(tmp_path: Path) -> None:
    base = _five_layers(tmp_path)
    influence = block_influence(Base.of(base), random_examples(8))
    assert max(influence[1], influence[3]) < 0.01 < min(influence[0], influence[2], influence[4])
    cut = load_model(
        str(write_without(tmp_path / "cut", Base.of(base), [1, 3])), dtype="fp32", cache=tmp_path / "cache"
    )
    wrong = load_model(
        str(write_without(tmp_path / "no", Base.of(base), [0, 2])), dtype="fp32", cache=tmp_path / "cache"
    )
    whole_says = logits(base.model).softmax(-1)
    near, far = ((logits(m.model).softmax(-1) - whole_says).abs().sum() for m in (cut, wrong))
    assert near < far / 5
    assert cut.model.layers == 3


def test_a_pruned_model_is_smaller_and_heals(tmp_path: Path) -> None:
    base = load_model(str(build_model(tmp_path / "base")), dtype="fp32", cache=tmp_path / "cache")
    examples = random_examples(6)
    recipe = Recipe(rank=8, batch_tokens=400, epochs=30, learning_rate=1e-2, evaluations=4, threads=1)
    done = prune(base, examples, examples[:3], 1, tmp_path / "out", recipe, cache=tmp_path / "cache")
    before, pruned, healed = done.stages
    assert (before.layers, pruned.layers, healed.layers) == (3, 2, 2)
    assert healed.parameters == pruned.parameters < before.parameters
    assert healed.bytes < before.bytes
    assert healed.loss < pruned.loss - 0.5
    assert healed.decode_ms > 0
    reloaded = load_model(str(tmp_path / "out"), dtype="fp32", cache=tmp_path / "cache")
    assert reloaded.model.layers == 2
    assert reloaded.lineage.tokenizer_digest == base.lineage.tokenizer_digest
    assert {path.name for path in tmp_path.iterdir()} == {"base", "cache", "out"}
    assert all(name in table(done) for name in ("before", "pruned", "healed"))
    for layers, message in ((3, "cannot go"), (1, "is there already")):
        with pytest.raises(WhetstoneError, match=message):
            prune(base, examples, examples, layers, tmp_path / "out", recipe, cache=tmp_path / "cache")
