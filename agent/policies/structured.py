"""The ways in which servers are told the schema of an answer, and a question that shows whether one was heard."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from agent.types import JSON

SPELLINGS: Mapping[str, Callable[[Mapping[str, JSON]], dict[str, JSON]]] = {
    # OpenAI's own; vLLM, SGLang, llama.cpp, LM Studio, Ollama and TGI take it too.
    "response_format": lambda schema: {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "action", "strict": True, "schema": schema},
        }
    },
    "structured_outputs": lambda schema: {"structured_outputs": {"json": schema}},  # vLLM
    "guided_json": lambda schema: {"guided_json": schema},  # vLLM until 0.11
    "json_schema": lambda schema: {"json_schema": schema},  # llama.cpp
    "json_object": lambda schema: {"response_format": {"type": "json_object", "schema": schema}},  # llama-cpp-python
    "format": lambda schema: {"format": schema},  # Ollama
}
NOT_ENFORCED = "none"

PROBE_SCHEMA: Mapping[str, JSON] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"thought": {"type": "string", "maxLength": 4}, "tool": {"const": "probe-7319"}},
            "required": ["thought", "tool"],
            "additionalProperties": False,
        }
    ]
}
PROBE_TOKENS = 128


def obeys(text: str) -> bool:
    """Whether a reply to the probe has the form that was asked for."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    branch: Any = PROBE_SCHEMA["anyOf"][0]
    return isinstance(value, dict) and value.get("tool") == branch["properties"]["tool"]["const"]
