"""Any other embedding model: sentence-transformers loads it from a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.types import MemoryRecord, WhetstoneError
from memory import open_memory
from memory.embed import load_embedder

WORDS = "the staging port is 7443 harbour closed on sundays which".split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of one layer, which has seen nothing."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"))
    made = SentenceTransformer(modules=[bert, Pooling(16)], device="cpu")
    made.save(str(folder / "whole"))
    return str(folder / "whole")


def test_another_model_gives_unit_vectors_and_serves_a_memory(model: str, tmp_path: Path) -> None:
    embedder = load_embedder(model)
    texts = ["the staging port is 7443", "harbour closed"]
    vectors = embedder.embed(texts)
    assert (embedder.name, embedder.dimensions) == (model, 16)
    assert (vectors.shape, vectors.dtype) == ((2, 16), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert embedder.embed([]).shape == (0, 16)
    assert embedder.embed(texts[:1]) == pytest.approx(vectors[:1], abs=1e-5), "alone or beside others"
    memory = open_memory(tmp_path, embedder=model)
    memory.add(MemoryRecord(text, text, "note", "model", "s", n, "", 1.0) for n, text in enumerate(texts))
    [found, _] = memory.search("the staging port is 7443")
    assert found.record.text == texts[0]
    assert found.parts["dense"] == pytest.approx(0.75, abs=1e-3)
    memory.close()
    with pytest.raises(WhetstoneError, match="was made with the embedder"):
        open_memory(tmp_path)


def test_a_model_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WhetstoneError, match="cannot be loaded") as raised:
        load_embedder(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_the_embedding_library_keeps_no_record_of_its_use_to_send(tmp_path: Path) -> None:
    """onnxruntime would queue events below the home folder, under an id of the machine that it makes there."""
    code = "import memory.embed as m; m.load_embedder(cache=m.default_cache()).embed(['hello'])"
    kept = ("CI", "GITHUB_", "TF_BUILD", "XDG_", "ORT_")  # it is off by itself where some of these are set
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, timeout=120)
    assert ran.returncode == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written, "the home folder was used"
    assert all(path.is_relative_to(tmp_path / ".cache/whetstone") for path in written), written
