"""The command: a dataset goes in, an adapter that runs comes out, and what is wrong is said in a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.cli import main
from agent.engine.models import load_model
from agent.learning.dataset import write_dataset
from tests.learning.sessions_as_tokens import random_examples
from tests.models import build_model


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = str(build_model(tmp_path / "model"))
    lineage = load_model(spec, dtype="fp32", cache=tmp_path / "cache" / "whetstone").lineage
    write_dataset(tmp_path / "data", random_examples(40), {"base": spec, **asdict(lineage)})
    return tmp_path / "data"


def test_train_makes_an_adapter_and_says_how_it_went(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = dataset.parent / "adapter"
    options = ["--rank", "4", "--epochs", "1", "--batch-tokens", "300", "--dtype", "fp32", "--patience", "0", "--json"]
    assert main(["train", str(dataset), "-o", str(out), *options]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["stopped"] == "done"
    assert facts["heldout"] > 0
    assert facts["recipe"]["rank"] == 4
    assert "tokens/s" in said.err
    spec = json.loads((dataset / "manifest.json").read_text())["base"]
    loaded = load_model(spec, adapter=out, dtype="fp32", cache=dataset.parent / "cache" / "whetstone")
    assert loaded.adapter is not None
    assert not loaded.adapter.warning


@pytest.mark.parametrize("option", ["--replay", "--holdout"])
def test_a_suite_is_kept_apart_only_if_every_dataset_kept_it_apart(dataset: Path, option: str) -> None:
    manifest = json.loads((dataset / "manifest.json").read_text())
    kept, leaked = dataset.parent / "kept", dataset.parent / "leaked"
    write_dataset(kept, random_examples(12), {**manifest, "held_out": {"suites": ["suite", "other"]}})
    write_dataset(leaked, random_examples(12, seed=5), {**manifest, "held_out": {"suites": ["other"]}})
    options = ["--rank", "4", "--epochs", "1", "--batch-tokens", "300", "--dtype", "fp32"]
    for beside, left in (([], ["suite", "other"]), ([option, str(leaked)], ["other"])):
        out = dataset.parent / f"adapter-{len(beside)}"
        assert main(["train", str(kept), "-o", str(out), *options, *beside]) == 0
        assert json.loads((out / "whetstone.json").read_text())["held_out"] == left


def test_a_training_goes_on_by_the_command_too(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--rank", "4", "--epochs", "1", "--dtype", "fp32"]
    train = ["train", str(dataset), "-o", str(dataset.parent / "out"), *short]
    for options in (["--resume"], ["--resume", "--json"]):
        assert main([*train, *options]) == 0, capsys.readouterr().err


def test_a_dataset_of_another_tokenizer_is_refused(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = dataset.parent / "other"
    manifest = json.loads((dataset / "manifest.json").read_text())
    write_dataset(other, random_examples(4), {**manifest, "tokenizer_digest": "0" * 64})
    assert main(["train", str(other), "-o", str(dataset.parent / "out")]) == 1
    assert "another tokenizer" in capsys.readouterr().err
    assert not (dataset.parent / "out").exists()


def test_a_base_too_large_is_refused_before_its_weights_are_read(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its config is of a giant, so whoever read its weights would find that they do not belong to it."""
    folder = Path(json.loads((dataset / "manifest.json").read_text())["base"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 10**6, "intermediate_size": 4 * 10**6}))
    assert main(["train", str(dataset), "-o", str(dataset.parent / "out"), "--batch-tokens", "1000"]) == 1
    said = capsys.readouterr().err
    assert "needs about" in said
    assert "GiB are free" in said


def test_a_wrong_choice_is_a_sentence(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(dataset), "-o", str(dataset.parent / "out"), "--method", "lori"]) == 2
    assert "choose one of lora" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--epochs", "inf", "epochs must be a finite number, not inf"),
        ("--epochs", "nan", "epochs must be a finite number, not nan"),
        ("--lr", "nan", "learning rate must be a finite number, not nan"),
        ("--layers", "-3", "layers must not be below 0, it is -3"),
        ("--threads", "-2", "threads must not be below 0, it is -2"),
        ("--patience", "-1", "patience must not be below 0, it is -1"),
        ("--kl-weight", "-1", "kl weight must not be below 0, it is -1"),
        ("--dtype", "int8", "there is no training in 'int8': choose one of auto, fp32, bf16"),
    ],
)
def test_a_number_that_means_nothing_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    assert main(["train", str(tmp_path / "data"), "-o", str(tmp_path / "out"), option, value]) == 2
    assert said in capsys.readouterr().err


def test_prune_makes_a_smaller_model_and_says_what_it_cost(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = dataset.parent / "smaller"
    options = ["--layers", "1", "--rank", "4", "--epochs", "1", "--batch-tokens", "600", "--evaluations", "1"]
    assert main(["prune", str(dataset), "-o", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert [line.split()[:2] for line in said.splitlines()[1:4]] == [["before", "3"], ["pruned", "2"], ["healed", "2"]]
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 2
    assert main(["prune", str(dataset), "-o", str(out), *options]) == 2
    assert "is there already" in capsys.readouterr().err
