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
