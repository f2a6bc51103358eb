"""Policies for the sessions of a batch: each model is loaded once, whatever number of sessions it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent.policies import open_policy
from agent.settings import Settings
from agent.types import JSON, Completion, Policy, Prompt

if TYPE_CHECKING:
    from agent.engine.models import LoadedModel


class SharedModels:
    """Opens policies on models that stay loaded until the process ends. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._loaded: dict[str, LoadedModel] = {}

    def open(self, settings: Settings, session: str, stream: str) -> Policy:
        """The policy of one session; `stream` sets its random numbers apart. Raises WhetstoneError."""
        name = settings.model.name
        if name.startswith(("scripted:", "http://", "https://")):
            return open_policy(settings, session)
        from agent.engine.sampling import Sampling
        from agent.policies.local import LocalPolicy

        loaded = self._model(settings)
        sampling = Sampling(
            settings.sampling.temperature, settings.sampling.top_p, settings.sampling.seed, stream=stream
        )
        policy = LocalPolicy(loaded, session=session, sampling=sampling, context_tokens=settings.model.context_tokens)
        return _OneAtATime(policy, self._turn)

    def _model(self, settings: Settings) -> LoadedModel:
        from pathlib import Path

        from agent.engine.models import load_model

        model = settings.model
        with self._lock:
            if model.name not in self._loaded:
                self._loaded[model.name] = load_model(
                    model.name,
                    adapter=None if model.adapter in ("auto", "none") else Path(model.adapter),
                    dtype=model.dtype,
                    device=model.device,
                    threads=model.threads or None,
                    cache=settings.paths.cache,
                )
            return self._loaded[model.name]


class _OneAtATime:
    """A policy that waits for its turn."""

    def __init__(self, policy: Policy, turn: threading.Lock) -> None:
        self._policy = policy
        self._turn = turn

    @property
    def context_tokens(self) -> int:
        return self._policy.context_tokens

    def describe(self) -> Mapping[str, JSON]:
        return self._policy.describe()

    def count(self, text: str) -> int:
        return self._policy.count(text)

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
    ) -> Completion:
        with self._turn:
            return self._policy.act(
                prompt,
                schema,
                step=step,
                max_tokens=max_tokens,
                deadline=deadline,
                on_text=on_text,
                cancelled=cancelled,
            )

    def close(self) -> None:
        self._policy.close()
