"""The model on this machine as a policy: a prompt in, a schema-valid action out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from agent.policies.otherwise import otherwise
from agent.settings import Settings
from agent.types import JSON, Action, Completion, Prompt, WhetstoneError

if TYPE_CHECKING:
    from agent.engine.decode import Engine, Request
    from agent.engine.models import LoadedModel, OpenBase
    from agent.engine.prefixes import PrefixFiles
    from agent.engine.sampling import Sampling
    from agent.engine.scheduler import Scheduler

MAX_CONTEXT = 8192
"""The window where the setting leaves it open: what a long session needs, at a price a small machine can pay."""
LIBRARIES = ("torch", "tokenizers", "llguidance")


class Bases:
    """Bases that stay open, so that another adapter does not read its base again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str, Path], OpenBase] = {}

    def open(self, settings: Settings) -> OpenBase:
        """The base of the model that the settings name. Raises WhetstoneError if it cannot be opened."""
        from agent.engine.models import open_base

        model, cache = settings.model, settings.paths.cache
        key = model.name, model.device, cache
        with self._lock:
            if key not in self._open:
                self._open[key] = open_base(model.name, device=model.device, threads=model.threads or None, cache=cache)
            return self._open[key]


def load_chosen(settings: Settings, bases: Bases | None = None) -> LoadedModel:
    """The model and the adapter that the settings name. Raises WhetstoneError if either cannot be loaded."""
    from agent.learning.chosen import chosen_adapter

    adapter = chosen_adapter(settings)
    return (bases or Bases()).open(settings).with_adapter(adapter, settings.model.dtype)


def engine_for(loaded: LoadedModel, *, context_tokens: int = 0, cache: Path | None = None) -> Engine:
    """An engine for a loaded model; a `Scheduler` around it serves several sessions.

    In the folder `cache` it keeps what the next process need not compute again.
    """
    from agent.engine.chat import Chat
    from agent.engine.decode import Engine

    context = min(context_tokens or MAX_CONTEXT, loaded.model.context_tokens)
    return Engine(
        loaded.model,
        loaded.tokenizer,
        end_id=Chat(loaded.tokenizer).end_id,
        context_tokens=context,
        prefixes=None if cache is None else _prefixes(loaded, cache),
    )


def _prefixes(loaded: LoadedModel, cache: Path) -> PrefixFiles | None:
    """None where keys and values cannot be told by what the model is called: ensembles, and what runs on a GPU."""
    from agent.engine.adapter import network_key
    from agent.engine.digests import PREFIXES
    from agent.engine.llama import LlamaNetwork
    from agent.engine.precision import multiplies_bf16
    from agent.engine.prefixes import PrefixFiles

    if not isinstance(loaded.model, LlamaNetwork) or loaded.device != "cpu":
        return None
    config = json.loads((loaded.folder / "config.json").read_text(encoding="utf-8"))
    weights = network_key(loaded.lineage, config, loaded.adapter)
    key = [*weights, loaded.dtype, multiplies_bf16(), version("torch")]
    return PrefixFiles(cache / PREFIXES, key)


_SCORE = "/score"
"""After a session's name: the cache of texts whose probability was asked for."""


class LocalPolicy:
    """One session's view of a loaded model.

    `sampling` is what every step uses; `session` names the cache. `scheduler` is the engine that several sessions
    share (`Scheduler(engine_for(loaded))`); without one the session has an engine of its own, which keeps in the folder
    `cache` what the next process need not compute again.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        session: str,
        sampling: Sampling,
        context_tokens: int = 0,
        scheduler: Scheduler | None = None,
        cache: Path | None = None,
    ) -> None:
        from agent.engine.chat import Chat

        self._loaded = loaded
        self._session = session
        self._sampling = sampling
        self._context = min(context_tokens or MAX_CONTEXT, loaded.model.context_tokens)
        self._chat = Chat(loaded.tokenizer)
        self._engine = scheduler or engine_for(loaded, context_tokens=self._context, cache=cache)

    @classmethod
    def open(cls, settings: Settings, session: str) -> LocalPolicy:
        """The policy that the settings describe. Raises WhetstoneError if the model or the adapter cannot be loaded."""
        from agent.engine.sampling import Sampling

        chosen = settings.sampling
        sampling = Sampling(temperature=chosen.temperature, top_p=chosen.top_p, seed=chosen.seed)
        loaded = load_chosen(settings)
        return cls(
            loaded,
            session=session,
            sampling=sampling,
            context_tokens=settings.model.context_tokens,
            cache=settings.paths.cache,
        )

    @property
    def context_tokens(self) -> int:
        return self._context

    def describe(self) -> Mapping[str, JSON]:
        loaded = self._loaded
        adapter = loaded.adapter
        return {
            "name": loaded.spec,
            "kind": "local",
            "adapter": None if adapter is None else str(adapter.folder),
            "adapter_digest": None if adapter is None else adapter.digest,
            **asdict(loaded.lineage),
            "dtype": loaded.dtype,
            "device": loaded.device,
            "sampling": {"temperature": self._sampling.temperature, "top_p": self._sampling.top_p},
            "seed": self._sampling.seed,
            "thinks": self._chat.thinks,
            "libraries": {name: version(name) for name in LIBRARIES},
            "notes": list(loaded.notes),
        }

    def count(self, text: str) -> int:
        return len(self._loaded.tokenizer.encode(text))

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
        from time import perf_counter

        started = perf_counter()
        request = self._request(prompt, schema, step=step, max_tokens=max_tokens)
        tokenized = (perf_counter() - started) * 1000
        request = replace(request, deadline=deadline, on_text=on_text, cancelled=cancelled, thinks=self._chat.thinks)
        completion = self._engine.complete(request)
        if not self._chat.thinks:
            completion = otherwise(self._engine.complete, request, completion, avoid, self._loaded.tokenizer)
        return replace(completion, milliseconds={"tokenize": round(tokenized, 3), **completion.milliseconds})

    def score(self, prompt: Prompt, schema: Mapping[str, JSON], text: str) -> float | None:
        """Natural log of the probability of `text` as the answer to `prompt`; None where it cannot be written.

        The probability is under the grammar, before temperature, without thinking.
        """
        request = self._request(prompt, schema, step=0, max_tokens=self._context)
        request = replace(request, session=f"{self._session}{_SCORE}", follow=text)
        try:
            said = self._engine.complete(request)
        except WhetstoneError:
            return None
        return sum(said.logprobs) if said.text == text and said.finish == "stop" else None

    def _request(self, prompt: Prompt, schema: Mapping[str, JSON], *, step: int, max_tokens: int) -> Request:
        from agent.engine.decode import Request

        ids = self._chat.encode(prompt)
        sampling = replace(self._sampling, step=step)
        shared = self._chat.opening_tokens(prompt)
        return Request(self._session, ids, schema, max_tokens=max_tokens, sampling=sampling, shared=shared)

    def close(self) -> None:
        self._engine.forget(self._session)
        self._engine.forget(f"{self._session}{_SCORE}")
