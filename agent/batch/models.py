"""Policies for the sessions of a batch: each model is loaded once and decodes for all of them together."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.policies import SCRIPTED, SERVED, open_policy
from agent.settings import Settings
from agent.types import JSON, Policy

if TYPE_CHECKING:
    from agent.engine.models import LoadedModel
    from agent.engine.scheduler import Scheduler
    from agent.policies.server import ModelServer

IDENTITY = ("name", "base_digest", "adapter_digest", "tokenizer_digest", "template_digest", "dtype")
"""What of a policy's description says which model it is."""


class SharedModels:
    """Opens policies on models that stay loaded, and servers that stay connected, until `close`. Thread-safe.

    `rows` is how many sessions may decode at once.
    """

    def __init__(self, rows: int = 1) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[LoadedModel, Scheduler]] = {}
        self._servers: dict[str, ModelServer] = {}

    def open(self, settings: Settings, session: str, stream: str) -> Policy:
        """The policy of one session; `stream` sets its random numbers apart. Raises WhetstoneError."""
        if settings.model.name.startswith(SCRIPTED):
            return open_policy(settings, session)
        if settings.model.name.startswith(SERVED):
            from agent.policies.served import ServedPolicy

            return ServedPolicy(self._server(settings.model.name), settings, stream=stream)
        from agent.engine.sampling import Sampling
        from agent.policies.local import LocalPolicy

        loaded, scheduler = self._model(settings)
        chosen = settings.sampling
        return LocalPolicy(
            loaded,
            session=session,
            sampling=Sampling(chosen.temperature, chosen.top_p, chosen.seed, stream=stream),
            context_tokens=settings.model.context_tokens,
            scheduler=scheduler,
        )

    def identity(self, settings: Settings) -> dict[str, JSON]:
        """Digests that say which model the settings name at this moment; it is loaded. Raises WhetstoneError."""
        if settings.model.name.startswith(SCRIPTED):
            return {}
        policy = self.open(settings, "identity", "")
        described: Mapping[str, JSON] = policy.describe()
        policy.close()
        return {f"model {key.replace('_', ' ')}": described.get(key) for key in IDENTITY}

    def close(self) -> None:
        for _, scheduler in self._loaded.values():
            scheduler.close()
        for server in self._servers.values():
            server.close()

    def _server(self, address: str) -> ModelServer:
        from agent.policies.server import ModelServer

        with self._lock:
            if address not in self._servers:
                self._servers[address] = ModelServer.connect(address)
            return self._servers[address]

    def _model(self, settings: Settings) -> tuple[LoadedModel, Scheduler]:
        from agent.engine.scheduler import Scheduler
        from agent.policies.local import engine_for, load_chosen

        name = settings.model.name
        with self._lock:
            if name not in self._loaded:
                loaded = load_chosen(settings)
                engine = engine_for(loaded, context_tokens=settings.model.context_tokens, cache=settings.paths.cache)
                self._loaded[name] = loaded, Scheduler(engine, rows=self._rows)
            return self._loaded[name]
