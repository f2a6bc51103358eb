"""The engines that `benchmarks/engine.py` compares ours with, each behind one call: read this prompt, write n tokens.

All on the CPU, on the same weights, greedy. What cannot be imported is left out and said so.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.engine.finding import starter_file
from agent.engine.models import LoadedModel
from agent.types import Message


class Spent(NamedTuple):
    """CPU seconds of another process, and the tokens it wrote."""

    cpu: float
    written: int


Run = Callable[[Sequence[Message], Sequence[int], int], Spent | None]


def peers(loaded: LoadedModel, schema: Mapping[str, Any], llama_cpp: Path | None) -> Iterator[tuple[str, Run]]:
    """Name and call of each engine that is here. One is loaded at a time, before its call is handed out.

    `llama_cpp` is a folder in which `npm install node-llama-cpp` was run.
    """
    yield "transformers generate, fp32, full prefill", _transformers(loaded)
    if importlib.util.find_spec("smolagents") is None:
        print("smolagents is not installed", file=sys.stderr)
    else:
        yield "smolagents TransformersModel, fp32", _smolagents(loaded)
    if llama_cpp is None:
        print("llama.cpp is left out: --llama-cpp FOLDER names where node-llama-cpp is installed", file=sys.stderr)
    else:
        yield "llama.cpp, the GGUF of the model, its grammar", _llama_cpp(loaded, schema, llama_cpp)


def _transformers(loaded: LoadedModel) -> Run:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(loaded.folder, dtype=torch.float32).eval()

    def run(_: Sequence[Message], ids: Sequence[int], count: int) -> None:
        with torch.inference_mode():
            prompt = torch.tensor([list(ids)])
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                min_new_tokens=count,
                max_new_tokens=count,
            )

    return run


def _smolagents(loaded: LoadedModel) -> Run:
    from smolagents import TransformersModel

    model = TransformersModel(str(loaded.folder), device_map="cpu", torch_dtype="float32", do_sample=False)

    def run(messages: Sequence[Message], ids: Sequence[int], count: int) -> None:
        chat = [{"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in messages]
        model.generate(chat, min_new_tokens=count, max_new_tokens=count)

    return run


def _llama_cpp(loaded: LoadedModel, schema: Mapping[str, Any], package: Path) -> Run:
    """llama.cpp keeps the longest common prefix of two prompts; it is given ours as token ids."""
    import torch

    process = subprocess.Popen(
        ["node", str(Path(__file__).with_name("llama_cpp.mjs"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(call: Mapping[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(call), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline() or "{}")

    entry = package / "node_modules" / "node-llama-cpp" / "dist" / "index.js"
    setup = {"package": entry.as_uri(), "model": str(starter_file()), "threads": torch.get_num_threads()}
    ask({**setup, "context": 8192, "schema": {"oneOf": [_plain(branch) for branch in schema["anyOf"]]}})

    def run(_: Sequence[Message], ids: Sequence[int], count: int) -> Spent:
        answer = ask({"ids": list(ids), "count": count})
        return Spent(answer["cpu"], answer["written"])

    return run


def _plain(schema: Any) -> Any:
    """The schema without long maxima: llama.cpp's grammars refuse to repeat a character more than 2,000 times."""
    if isinstance(schema, dict):
        kept = {key: _plain(value) for key, value in schema.items() if key != "maxLength" or value <= 300}
        return {key: value for key, value in kept.items() if key not in ("minimum", "maximum", "minLength")}
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema
