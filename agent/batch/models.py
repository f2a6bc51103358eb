"""Policies for the sessions of a batch: each model is loaded once and decodes for all of them together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agent.policies import SCRIPTED, SERVED, open_policy
from agent.policies.local import Bases
from agent.settings import Settings
from agent.types import JSON, Policy

if TYPE_CHECKING:
    from agent.engine.models import LoadedModel
    from agent.engine.scheduler import Scheduler
    from agent.policies.server import ModelServer

IDENTITY = ("name", "base_digest", "adapter_digest", "tokenizer_digest", "template_digest", "dtype")
"""What of a policy's description says which model it is."""
OF_ROW = "row's model "
"""What the digests of a model that only some rows name begin with."""


def with_model(settings: Settings, name: str | None) -> Settings:
    """The settings for a row that names the model `name`, or none.

    An adapter that was given by name belongs to the settings' own model: another one gets its own, as by `auto`.
    """
    now = settings.model
    if name is None or name == now.name:
        return settings
    adapter = "none" if now.adapter == "none" else "auto"
    return settings.model_copy(update={"model": now.model_copy(update={"name": name, "adapter": adapter})})


class SharedModels:
    """Opens policies on models that stay loaded, and servers that stay connected, until `close`. Thread-safe.

    `rows` is how many sessions may decode at once; `bases` are those on which the adapters go.
    """

    def __init__(self, rows: int = 1, bases: Bases | None = None) -> None:
        self._rows = rows
        self._bases = bases or Bases()
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str], tuple[LoadedModel, Scheduler]] = {}
        """By name and adapter."""
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

    def identity(self, settings: Settings, named: Iterable[str] = ()) -> dict[str, JSON]:
        """Digests that say which model the settings name at this moment, and which are those that rows name.

        They are loaded. Raises WhetstoneError where that of the settings cannot be; one that only rows name is left
        out then, for those rows to say so themselves.
        """
        digests = {f"model {key}": digest for key, digest in self._digests(settings).items()}
        for name in sorted({*named} - {settings.model.name}):
            with contextlib.suppress(Exception):  # whatever it is: some rows must not take the others with them
                found = self._digests(with_model(settings, name))
                digests |= {f"{OF_ROW}{name}: {key}": digest for key, digest in found.items()}
        return digests

    def _digests(self, settings: Settings) -> dict[str, JSON]:
        if settings.model.name.startswith(SCRIPTED):
            return {}
        policy = self.open(settings, "identity", "")
        described: Mapping[str, JSON] = policy.describe()
        policy.close()
        return {key.replace("_", " "): described.get(key) for key in IDENTITY}

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

        key = settings.model.name, settings.model.adapter
        with self._lock:
            if key not in self._loaded:
                loaded = load_chosen(settings, self._bases)
                engine = engine_for(loaded, context_tokens=settings.model.context_tokens, cache=settings.paths.cache)
                self._loaded[key] = loaded, Scheduler(engine, rows=self._rows)
            return self._loaded[key]
