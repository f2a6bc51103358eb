"""Training: what is promised of every run, whatever is trained."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from agent.engine.models import load_model
from agent.learning import learner
from agent.learning.learner import Base
from agent.learning.recipe import Recipe
from agent.learning.schedule import Source, schedule, split_by_goal
from agent.learning.trainer import Progress, train
from agent.types import WhetstoneError
from tests.learning.sessions_as_tokens import random_examples
from tests.models import build_model
from tests.test_lines import files_of_at_most

RECIPE = Recipe(rank=4, alpha=8, learning_rate=1e-2, epochs=15, batch_tokens=200, dtype="fp32", threads=1)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return Base.of(load_model(str(build_model(tmp_path / "model")), dtype="fp32", cache=tmp_path / "cache"))


@pytest.mark.parametrize(("multiplies", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_by_itself_it_computes_in_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, multiplies: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(learner, "multiplies_bf16", lambda: multiplies)
    assert learner.number_format(Recipe(device="cpu"))[1] is dtype
    assert learner.number_format(Recipe(device="cpu", dtype="fp32"))[1] is torch.float32


def test_the_loss_falls_and_the_adapter_loads(base: Base, tmp_path: Path) -> None:
    trained = train(base, random_examples(8), RECIPE, tmp_path / "adapter")
    losses = [point.loss for point in trained.points]
    assert losses[-1] < 0.8 * losses[0]
    loaded = load_model(base.spec, adapter=trained.folder, dtype="fp32", cache=tmp_path / "cache")
    assert loaded.adapter is not None
    assert not loaded.adapter.warning
    card = json.loads((trained.folder / "whetstone.json").read_text())
    assert card["recipe"] == json.loads(json.dumps(RECIPE.card()))
    assert (trained.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert len((trained.folder / "curve.jsonl").read_text().splitlines()) == len(trained.points)
    assert [session for session, _ in card["sessions"]["task"]] == [f"s{n}" for n in range(8)]


def test_the_runtime_computes_what_was_trained(base: Base, tmp_path: Path) -> None:
    """The held-out loss of the trainer is the loss of the merged model in peft's and transformers' hands."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from agent.learning.learner import open_learner
    from agent.learning.objectives import mean_loss

    examples = random_examples(8)
    trained = train(base, examples, RECIPE, tmp_path / "adapter", holdout=examples)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(trained.folder))
    total, count = 0.0, 0
    for example in examples:
        logs = model(torch.tensor([example.ids])).logits[0].log_softmax(-1)
        chosen = [-float(logs[i - 1, id]) for i, id in enumerate(example.ids) if example.loss[i]]
        total, count = total + sum(chosen), count + len(chosen)
    assert trained.best == pytest.approx(total / count, rel=0.02)  # the adapter is saved in bfloat16
    with torch.no_grad():
        assert mean_loss(open_learner(base, RECIPE, steps=1), examples, 200) > 1.2 * (total / count)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(base: Base, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> bytes:
        recipe = Recipe(**{**RECIPE.card(), "seed": seed, "epochs": 2.0})
        return (
            train(base, random_examples(8), recipe, tmp_path / name).folder / "adapter_model.safetensors"
        ).read_bytes()

    assert weights("a", 0) == weights("b", 0) != weights("c", 1)


_KILLED = """
import sys
from pathlib import Path
from agent.engine.models import load_model
from agent.learning.learner import Base
from agent.learning.trainer import train
from tests.learning.sessions_as_tokens import random_examples
from tests.learning.test_trainer import RECIPE
base = Base.of(load_model(sys.argv[1], dtype="fp32", cache=Path(sys.argv[2])))
def told(progress):
    print(progress.point.step, flush=True)
train(base, random_examples(8), RECIPE, Path(sys.argv[3]), holdout=random_examples(3, seed=9), resume=True,
      watch=told, checkpoint_seconds=0.0)
"""


def test_a_killed_training_goes_on_and_ends_with_the_same_adapter(base: Base, tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _KILLED, base.spec, str(tmp_path / "cache"), str(out)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole = start(tmp_path / "whole")
    steps = [int(line) for line in whole.communicate(timeout=120)[0].split()]
    killed = start(tmp_path / "killed")
    assert killed.stdout is not None
    while int(killed.stdout.readline()) < len(steps) // 2:
        pass
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "adapter_model.safetensors").exists()
    went_on = [int(line) for line in start(tmp_path / "killed").communicate(timeout=120)[0].split()]
    assert went_on[0] > 1
    assert went_on[-1] == steps[-1]
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "killed" / "checkpoint").exists()


def test_a_checkpoint_of_another_training_is_refused(base: Base, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.point.step == 2:
            raise Stop

    with pytest.raises(Stop):
        train(base, random_examples(8), RECIPE, tmp_path / "out", watch=stop, checkpoint_seconds=0)
    with pytest.raises(WhetstoneError, match="another training"):
        train(base, random_examples(8, seed=1), RECIPE, tmp_path / "out", resume=True)


def test_an_adapter_that_cannot_be_written_is_a_sentence_and_the_training_is_kept(base: Base, tmp_path: Path) -> None:
    out, recipe = tmp_path / "out", Recipe(**{**RECIPE.card(), "epochs": 2.0})
    whole = train(base, random_examples(8), recipe, tmp_path / "whole")
    (out / "adapter_model.safetensors").mkdir(parents=True)
    with pytest.raises(WhetstoneError, match=r"out cannot be written to .*: make room .* --resume, the checkpoint"):
        train(base, random_examples(8), recipe, out)
    (out / "adapter_model.safetensors").rmdir()
    steps: list[Progress] = []
    train(base, random_examples(8), recipe, out, resume=True, watch=steps.append)
    assert steps == []
    for name in ("adapter_model.safetensors", "whetstone.json"):
        assert (out / name).read_bytes() == (whole.folder / name).read_bytes()
    assert not (out / "checkpoint").exists()


def test_a_full_disk_is_a_sentence(base: Base, tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.card(), "epochs": 6.0})
    with (
        files_of_at_most(2000),
        pytest.raises(WhetstoneError, match=r"cannot be written to .*: make room .* train again"),
    ):
        train(base, random_examples(4), recipe, tmp_path / "out")
    assert not list(tmp_path.glob("out/checkpoint/*"))
    keep: list[Progress] = []

    def fill(progress: Progress) -> None:
        keep.append(progress)
        if len(keep) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with files_of_at_most(10**9), pytest.raises(WhetstoneError, match=r"make room .* --resume, the checkpoint"):
        train(base, random_examples(4), recipe, tmp_path / "out", watch=fill, checkpoint_seconds=0)
    steps: list[Progress] = []
    train(base, random_examples(4), recipe, tmp_path / "out", resume=True, watch=steps.append)
    assert steps[0].point.step == 3


def test_training_stops_when_the_heldout_loss_no_longer_falls_and_keeps_the_best(base: Base, tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.card(), "learning_rate": 0.05, "epochs": 60.0, "evaluations": 60, "patience": 2})
    trained = train(base, random_examples(8), recipe, tmp_path / "out", holdout=random_examples(4, seed=5))
    assert trained.stopped == "early"
    measured = [point.heldout for point in trained.points if point.heldout is not None]
    assert trained.best == min(measured) < measured[-1]
    assert len(measured) == measured.index(min(measured)) + 3


def test_a_base_too_large_for_the_memory_is_refused_before_it_starts(base: Base, tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.card(), "batch_tokens": 10**9})
    began = time.monotonic()
    with pytest.raises(WhetstoneError, match=r"needs about [\d.]+ GiB and [\d.]+ GiB are free"):
        train(base, random_examples(8), recipe, tmp_path / "out")
    assert time.monotonic() - began < 5
    assert not (tmp_path / "out").exists()


def test_a_time_limit_ends_the_training_with_an_annealed_learning_rate(base: Base, tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.card(), "epochs": 2000.0, "max_minutes": 1.5 / 60, "patience": 0})
    trained = train(base, random_examples(8), recipe, tmp_path / "out", holdout=random_examples(2, seed=4))
    assert trained.stopped == "time"
    assert trained.points[-1].heldout is not None  # what was learned last is measured, and may be the best
    assert trained.points[-1].seconds < 10
    assert trained.points[-1].learning_rate < 0.2 * RECIPE.learning_rate


def test_only_the_last_layers_and_the_named_modules_learn(base: Base, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    recipe = Recipe(**{**RECIPE.card(), "epochs": 1.0, "layers": 1, "targets": ("q_proj", "v_proj")})
    trained = train(base, random_examples(8), recipe, tmp_path / "out")
    modules = {name.split(".lora_")[0] for name in load_file(trained.folder / "adapter_model.safetensors")}
    assert modules == {f"base_model.model.model.layers.2.self_attn.{name}" for name in ("q_proj", "v_proj")}
    assert load_model(base.spec, adapter=trained.folder, dtype="fp32", cache=tmp_path / "cache").adapter is not None


def test_every_session_is_seen_once_an_epoch_and_replay_has_its_share() -> None:
    task, other = random_examples(20), random_examples(5, seed=1)
    steps = schedule([Source("task", task), Source("replay", other)], Recipe(epochs=2, batch_tokens=150))
    seen = [example.session for step in steps for batch in step[0].batches for example in batch]
    assert sorted(seen) == sorted(2 * [example.session for example in task])
    assert all(len(step[1].batches) == len(step[0].batches) for step in steps)


def test_heldout_goals_are_not_trained_on() -> None:
    examples = random_examples(50) + random_examples(50, seed=1)  # two sessions of each goal
    train_on, held = split_by_goal(examples, 0.2, seed=0)
    assert len(held) == 20
    assert not {e.goal for e in held} & {e.goal for e in train_on}
