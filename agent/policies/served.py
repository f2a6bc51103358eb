"""A model behind an OpenAI-compatible server as a policy: `--model http://HOST/v1`, or `http://HOST/v1#MODEL`.

The server applies the chat template and, where it can, the schema. There are no token ids to learn from, so sessions of
such a policy do not become training data, unless another model retraces them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from time import perf_counter

from agent.policies.server import ModelServer
from agent.settings import Settings
from agent.types import JSON, Action, Completion, Prompt, TokenUsage

CONTEXT_TOKENS = 8192
"""Where neither the settings nor the server say."""
LONGEST_CONTEXT = 32768
CHARS_PER_TOKEN = 3
"""For budgeting the prompt without the model's tokenizer: rather too many tokens than too few."""
_THINK_END = "</think>"


class ServedPolicy:
    """One session's view of a served model. `stream` sets the random numbers of sessions with one seed apart."""

    def __init__(self, server: ModelServer, settings: Settings, *, stream: str = "", owns: bool = False) -> None:
        self._server = server
        self._sampling = settings.sampling
        self._stream = stream
        self._owns = owns
        said = server.context_tokens or CONTEXT_TOKENS
        self._context = min(settings.model.context_tokens or LONGEST_CONTEXT, said)

    @classmethod
    def open(cls, settings: Settings) -> ServedPolicy:
        """Connect to the server that the settings name. Raises WhetstoneError where it cannot be used."""
        return cls(ModelServer.connect(settings.model.name), settings, owns=True)

    @property
    def context_tokens(self) -> int:
        return self._context

    def describe(self) -> Mapping[str, JSON]:
        return {
            "name": self._server.name,
            "kind": "served",
            "adapter": None,
            "structured": self._server.spelling,
            "sampling": {"temperature": self._sampling.temperature, "top_p": self._sampling.top_p},
            "seed": self._sampling.seed,
        }

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        began = perf_counter()
        reply = self._server.chat(
            _turns(prompt),
            schema=schema,
            max_tokens=max_tokens,
            options={
                "temperature": self._sampling.temperature,
                "top_p": self._sampling.top_p,
                "seed": self._seed(step),
            },
            deadline=deadline,
            on_text=on_text,
            cancelled=cancelled,
        )
        thinking, text = _split(reply.text)
        prompted = sum(self.count(message.content) for message in prompt.messages)
        return Completion(
            text=text,
            thinking=(reply.reasoning + thinking).strip(),
            finish=reply.finish,
            usage=_usage(reply.usage, prompted, reply.pieces, reply.wasted),
            milliseconds={"total": round((perf_counter() - began) * 1000, 3)},
        )

    def close(self) -> None:
        if self._owns:
            self._server.close()

    def _seed(self, step: int) -> int:
        said = f"{self._sampling.seed}\0{self._stream}\0{step}".encode()
        return int.from_bytes(blake2b(said, digest_size=4).digest(), "little") >> 1


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    """The chat; messages of one role in a row become one turn, as many templates refuse them otherwise."""
    turns = [(role, "\n\n".join(m.content for m in run)) for role, run in groupby(prompt.messages, lambda m: m.role)]
    return [{"role": role, "content": content} for role, content in turns]


def _split(text: str) -> tuple[str, str]:
    """What a model thought aloud, and the action after it, freed of a code fence."""
    thinking, ended, rest = text.rpartition(_THINK_END)
    thinking = thinking.replace("<think>", "", 1) if ended else ""
    rest = rest.strip()
    if rest.startswith("```") and rest.endswith("```"):
        fenced = rest[3:-3].removeprefix("json").strip()
        rest = fenced if _is_json(fenced) else rest
    return thinking, rest


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _usage(said: Mapping[str, JSON], prompt: int, pieces: int, wasted: int) -> TokenUsage:
    """The server's own counts, where it gives them; what dropped attempts generated counts too."""

    def count(value: JSON, otherwise: int) -> int:
        return value if isinstance(value, int) and value >= 0 else otherwise

    details = said.get("prompt_tokens_details")
    prompt = count(said.get("prompt_tokens"), prompt)
    cached = min(prompt, count(details.get("cached_tokens") if isinstance(details, dict) else None, 0))
    generated = count(said.get("completion_tokens"), pieces)
    return TokenUsage(prompt=prompt, cached=cached, prefilled=prompt - cached, sampled=generated + wasted)
