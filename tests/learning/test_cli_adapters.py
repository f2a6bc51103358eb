"""The adapter commands, run as a person would."""

from __future__ import annotations

import json
from pathlib import Path

from agent.engine.adapter import write_card
from agent.engine.models import load_model
from tests.command import Place
from tests.models import build_adapter, build_model


def test_an_adapter_is_taken_in_used_and_taken_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    model = build_model(tmp_path / "base")
    folder = build_adapter(tmp_path / "trained", model)
    lineage = load_model(str(model), dtype="fp32", cache=tmp_path / "cache").lineage
    write_card(folder, lineage, sessions={"task": [["s1", "d"]]}, recipe={"method": "lora"})
    assert "no adapters yet" in place.call("adapters", "list").stderr

    id = place.call("adapters", "add", str(folder)).stdout.strip()
    assert json.loads(place.call("adapters", "list", "--json").stdout)[0]["state"] == "candidate"
    refused = place.call("adapters", "promote", id)
    assert refused.returncode == 1
    assert "the gate has not judged it" in refused.stderr
    assert place.call("adapters", "promote", id[:6], "--without-gate").returncode == 0
    assert f"{id}  promoted" in place.call("adapters", "list").stdout

    back = place.call("-m", str(model), "adapters", "rollback")
    assert "out of use; no adapter of the registry is in use" in back.stderr
    shown = place.call("adapters", "show", id).stdout
    assert f"adapter {id} (former)" in shown
    assert "rolled back" in shown
    assert place.call("adapters", "export", id, "-o", "copy").returncode == 0
    assert (place.folder / "copy" / "adapter_model.safetensors").is_file()
    assert "--merged too" in place.call("adapters", "export", id, "-o", "no", "--quantize", "int8").stderr
    whole = place.call("-m", str(model), "adapters", "export", id, "-o", "int8", "--merged", "--quantize", "int8")
    assert whole.returncode == 0, whole.stderr
    assert (place.folder / "int8" / "weights.int8.safetensors").is_file()
    assert place.call("adapters", "rm", id).returncode == 0
    assert json.loads(place.call("adapters", "list", "--json").stdout) == []


def test_adapters_are_compared_combined_and_purged_of_a_session(tmp_path: Path) -> None:
    place = Place(tmp_path)
    model = build_model(tmp_path / "base")
    lineage = load_model(str(model), dtype="fp32", cache=tmp_path / "cache").lineage
    ids: list[str] = []
    for seed, session in ((1, "first"), (2, "second")):
        folder = build_adapter(tmp_path / session, model, seed=seed)
        write_card(folder, lineage, sessions={"task": [[session, "d"]]}, recipe={"method": "lora", "seed": seed})
        ids.append(place.call("adapters", "add", str(folder)).stdout.strip())
    told = place.call("adapters", "diff", *ids).stdout
    assert "seed" in told
    assert "first" in told or "sessions" in told

    merged = place.call("-m", str(model), "adapters", "merge", *ids, "--weights", "0.7,0.3").stdout.strip()
    together = place.call("-m", str(model), "adapters", "ensemble", *ids).stdout.strip()
    listed = {each["id"]: each for each in json.loads(place.call("adapters", "list", "--json").stdout)}
    assert set(listed) == {*ids, merged, together}

    dry = place.call("adapters", "purge", "--session", "second", "--dry-run")
    assert all(id in dry.stderr for id in (ids[1], merged, together))
    assert ids[0] not in dry.stderr
    assert place.call("adapters", "purge", "--session", "second", "--no-rebuild").returncode == 0
    assert [each["id"] for each in json.loads(place.call("adapters", "list", "--json").stdout)] == [ids[0]]
    nobody = place.call("adapters", "purge", "--session", "nobody", "--no-rebuild")
    assert (nobody.returncode, "no adapter was trained on session nobody" in nobody.stderr) == (1, True)


def test_the_gate_says_in_its_exit_code_and_its_sentences_what_it_found(tmp_path: Path) -> None:
    place = Place(tmp_path)
    model = build_model(tmp_path / "base")
    lineage = load_model(str(model), dtype="fp32", cache=tmp_path / "cache").lineage
    folder = build_adapter(tmp_path / "trained", model)
    write_card(folder, lineage)
    id = place.call("adapters", "add", str(folder)).stdout.strip()
    suite = place.folder / "suite.jsonl"
    budget = {"steps": 1, "tokens": 40, "action_tokens": 40}
    rows = [
        {"id": f"g{n}", "goal": f"Say {n}.", "check": {"answer": {"equals": "x"}}, "budget": budget} for n in (1, 2)
    ]
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = place.call("-m", str(model), "gate", id, "suite.jsonl", "--no-control", "--json", "-c", "model.dtype=fp32")
    found = json.loads(ran.stdout)
    outcomes = {finding["rule"]: finding["outcome"] for finding in found["findings"]}
    assert (ran.returncode, found["verdict"]) == (1, "reject")
    assert outcomes["gain"] == "fail"
    assert {outcomes[rule] for rule in ("kl", "secret", "held out")} == {"unsure"}
    assert "the gate said reject" in place.call("adapters", "promote", id).stderr
    assert place.call("gate", "nothing", "suite.jsonl").returncode == 2
