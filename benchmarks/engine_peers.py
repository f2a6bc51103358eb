"""The engines that `benchmarks/engine.py` compares ours with, each behind one call: read this prompt, write n tokens.

All on the CPU, on the same weights, greedy. What cannot be imported is left out and said so.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.engine.models import LoadedModel
from agent.types import Message

Run = Callable[[Sequence[Message], Sequence[int], int], None]


def peers(loaded: LoadedModel, schema: Mapping[str, Any]) -> Iterator[tuple[str, Run]]:
    """Name and call of each engine that is here. One is loaded at a time, before its call is handed out."""
    yield "transformers generate, fp32, full prefill", _transformers(loaded)
    for package, name, make in (
        ("smolagents", "smolagents TransformersModel, fp32", _smolagents),
        ("llama_cpp", "llama.cpp, GGUF of the model, its grammar", _llama_cpp),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed", file=sys.stderr)
            continue
        yield name, make(loaded, schema)


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


def _smolagents(loaded: LoadedModel, _: Mapping[str, Any]) -> Run:
    from smolagents import TransformersModel

    model = TransformersModel(str(loaded.folder), device_map="cpu", torch_dtype="float32", do_sample=False)

    def run(messages: Sequence[Message], ids: Sequence[int], count: int) -> None:
        chat = [{"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in messages]
        model.generate(chat, min_new_tokens=count, max_new_tokens=count)

    return run


def _llama_cpp(loaded: LoadedModel, schema: Mapping[str, Any]) -> Run:
    """llama.cpp keeps the longest common prefix of two prompts by itself; it is given ours as token ids."""
    import torch
    from llama_cpp import Llama, LlamaGrammar

    from agent.engine.models import starter_file

    threads = torch.get_num_threads()
    llama = Llama(str(starter_file()), n_ctx=8192, n_threads=threads, n_threads_batch=threads, verbose=False)
    grammar = LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)

    def run(_: Sequence[Message], ids: Sequence[int], count: int) -> None:
        llama.create_completion(list(ids), max_tokens=count, temperature=0.0, grammar=grammar)

    return run
