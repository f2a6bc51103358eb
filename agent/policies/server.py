"""A model server that speaks OpenAI's chat completions: what it can do, and requests that outlive its hiccups.

What may be sent to get JSON of a given schema has several spellings. Which of them a server obeys is found out by
asking for something that no model says by itself. Timeouts, dropped connections, 429 and 5xx are tried again for as
long as the session's time and our patience last.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from agent.policies.structured import NOT_ENFORCED, PROBE_SCHEMA, PROBE_TOKENS, SPELLINGS, obeys
from agent.policies.wire import (
    READ_SECONDS,
    Attempt,
    Reply,
    ServerRefused,
    Stopped,
    Transient,
    message,
    named,
    pause,
    retry_after_seconds,
    streamed_reply,
    whole_reply,
)
from agent.types import JSON, WhetstoneError

if TYPE_CHECKING:
    import httpx
    import tenacity

KEY_VARIABLE = "MODEL_API_KEY"
PATIENCE_SECONDS = 300.0
"""How long a server may be gone before a session gives up: a large model takes minutes to load again."""
FIRST_CONTACT_SECONDS = 10.0
"""The same before a session begins, when a person waits for the first sign."""
CONNECT_SECONDS = 10.0
TRANSIENT = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
"""The second is what OpenAI calls it now; most servers know the first alone."""
STREAM_OPTIONS: Mapping[str, JSON] = {"stream_options": {"include_usage": True}}
"""Some servers refuse what they do not know."""
LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))
_CHARS_PER_TOKEN_AT_MOST = 64


def _never() -> bool:
    return False


def _ignore(_: str) -> None:
    return


class ModelServer:
    """One model on one server. Thread-safe; several sessions share it. Use `connect`."""

    def __init__(
        self, address: str, *, patience: float = PATIENCE_SECONDS, env: Mapping[str, str] | None = None
    ) -> None:
        import httpx

        self.base, self.model = split_address(address)
        self._patience = patience
        key = (os.environ if env is None else env).get(KEY_VARIABLE, "")
        if not (key.isascii() and key.isprintable()):
            raise WhetstoneError(f"{KEY_VARIABLE} holds characters that no key has: set it again")
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            trust_env=urlsplit(self.base).hostname not in LOCAL_HOSTS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        )
        self._lock = threading.Lock()
        self._alive = time.monotonic()
        """When it last answered any session: what another one asks of it is no sign of its life."""
        self.context_tokens = 0
        """As the server says, 0 where it does not."""
        self.spelling = NOT_ENFORCED
        self._limit_name = LIMIT_NAMES[0]
        self._stream_options: Mapping[str, JSON] = STREAM_OPTIONS
        self._too_much: set[str] = set()
        """Schemas that the server refused."""

    @classmethod
    def connect(
        cls, address: str, *, patience: float = PATIENCE_SECONDS, env: Mapping[str, str] | None = None
    ) -> ModelServer:
        """Find out which model is served, its context, and how it is told a schema. Raises WhetstoneError."""
        server = cls(address, patience=patience, env=env)
        try:
            server._choose_model()
            server.spelling = server._find_spelling()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def name(self) -> str:
        return f"{self.base}#{self.model}"

    def close(self) -> None:
        self._client.close()

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, JSON] | None,
        max_tokens: int,
        options: Mapping[str, JSON] | None = None,
        deadline: float = float("inf"),
        on_text: Callable[[str], None] = _ignore,
        cancelled: Callable[[], bool] = _never,
    ) -> Reply:
        """One completion. Never raises for a limit. Raises WhetstoneError when the server cannot answer at all.

        `deadline` is in monotonic seconds. A schema the server cannot take is left out from then on: whoever
        asked validates the text anyway.
        """
        key = json.dumps(schema, sort_keys=True)
        spelling = NOT_ENFORCED if schema is None or key in self._too_much else self.spelling
        body = self._body(messages, spelling, schema or {}, max_tokens, options)
        try:
            return self._with_retries(body, max_tokens, deadline, on_text, cancelled)
        except ServerRefused:
            if spelling == NOT_ENFORCED:
                raise
        # Its grammar may not know a keyword of this schema. If that was not the reason, it refuses again.
        plain = self._body(messages, NOT_ENFORCED, {}, max_tokens, options)
        reply = self._with_retries(plain, max_tokens, deadline, on_text, cancelled)
        self._too_much.add(key)
        return reply

    def _body(
        self,
        messages: Sequence[Mapping[str, str]],
        spelling: str,
        schema: Mapping[str, JSON],
        max_tokens: int,
        options: Mapping[str, JSON] | None,
    ) -> dict[str, JSON]:
        structured = {} if spelling == NOT_ENFORCED else SPELLINGS[spelling](schema)
        return {
            "model": self.model,
            "messages": list(messages),
            self._limit_name: max_tokens,
            "stream": True,
            **self._stream_options,
            **(options or {}),
            **structured,
        }

    # --- finding out ---------------------------------------------------------------------------------------------

    def _choose_model(self) -> None:
        listed = self._listed()
        ids = [str(entry["id"]) for entry in listed]
        if not self.model and len(ids) != 1:
            some = ", ".join(ids[:5]) or "none"
            raise WhetstoneError(f"{self.base} serves {len(ids)} models ({some}): name one, as in {self.base}#MODEL")
        self.model = self.model or ids[0]
        found = next((entry for entry in listed if entry["id"] == self.model), {})
        meta = found.get("meta")
        said = found.get("max_model_len") or found.get("context_length")
        said = said or (meta.get("n_ctx") or meta.get("n_ctx_train") if isinstance(meta, dict) else 0)
        self.context_tokens = said if isinstance(said, int) and said > 0 else 0

    def _listed(self) -> list[dict[str, Any]]:
        """The models that the server lists. Waits a little for one that is just starting."""
        until = time.monotonic() + min(FIRST_CONTACT_SECONDS, self._patience)
        while True:
            try:
                data = self._answer(self._get("models")).get("data")
                return [entry for entry in data if isinstance(entry, dict) and "id" in entry] if data else []
            except Transient as error:
                if self.model and error.answered:  # its name was given, so the list is not needed
                    return []
                if time.monotonic() >= until:
                    raise WhetstoneError(
                        f"no model server answers at {self.base} ({error}): start it, or check --model"
                    ) from error
            except ServerRefused:
                if self.model:
                    return []
                raise
            time.sleep(0.5)

    def _get(self, path: str) -> httpx.Response:
        import httpx

        try:
            return self._client.get(f"{self.base}/{path}", timeout=CONNECT_SECONDS)
        except httpx.InvalidURL as error:
            raise WhetstoneError(f"{self.base} is no address: {error}") from error
        except httpx.RequestError as error:
            raise Transient(named(error)) from error

    def _find_spelling(self) -> str:
        """The first spelling that makes the server say what no model says by itself."""
        ask = [{"role": "user", "content": "Say hello."}]
        for number, spelling in enumerate(SPELLINGS):
            if number == 1:  # the usual way was refused or ignored: was it for the schema?
                self._mind_manners(ask)
            body = self._body(ask, spelling, PROBE_SCHEMA, PROBE_TOKENS, {"temperature": 0})
            try:
                reply = self._with_retries(body, PROBE_TOKENS, time.monotonic() + READ_SECONDS, _ignore, _never)
            except ServerRefused:
                continue
            if obeys(reply.text):
                return spelling
        return NOT_ENFORCED

    def _mind_manners(self, ask: Sequence[Mapping[str, str]]) -> None:
        """Find the form in which a request without a schema is taken. Raises ServerRefused where none is."""
        ways = [(name, options) for name in LIMIT_NAMES for options in (STREAM_OPTIONS, {})]
        for number, (self._limit_name, self._stream_options) in enumerate(ways, start=1):
            body = self._body(ask, NOT_ENFORCED, {}, 1, {"temperature": 0})
            try:
                self._with_retries(body, 1, time.monotonic() + READ_SECONDS, _ignore, _never)
                return
            except ServerRefused:
                if number == len(ways):
                    raise

    # --- one request, until it is answered -----------------------------------------------------------------------

    def _with_retries(
        self,
        body: Mapping[str, JSON],
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Reply:
        import tenacity

        attempt = Attempt(deadline, cancelled, on_text, chars=max_tokens * _CHARS_PER_TOKEN_AT_MOST)
        began = time.monotonic()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=pause,
            stop=lambda state: self._give_up(state, began),
            sleep=attempt.sleep,
            reraise=True,
        )
        try:
            reply = retrying(self._once, body, attempt)
        except Stopped as stopped:
            reply = Reply("", finish=stopped.finish)
        except Transient as error:
            waited = time.monotonic() - began
            raise WhetstoneError(
                f"the model server {self.base} did not answer for {waited:.0f} s ({error}):"
                " start it again, then go on with this session"
            ) from error
        return Reply(reply.text, reply.reasoning, reply.finish, reply.usage, reply.pieces, attempt.wasted)

    def _give_up(self, state: tenacity.RetryCallState, began: float) -> bool:
        error = state.outcome.exception() if state.outcome else None
        with self._lock:
            gone = time.monotonic() - max(began, self._alive)
        longest = error.retry_after if isinstance(error, Transient) and error.retry_after else 0.0
        return gone > self._patience or longest > self._patience

    def _once(self, body: Mapping[str, JSON], attempt: Attempt) -> Reply:
        import httpx

        attempt.begin()
        timeout = httpx.Timeout(attempt.read_seconds(), connect=min(CONNECT_SECONDS, attempt.read_seconds()))
        try:
            with self._client.stream("POST", f"{self.base}/chat/completions", json=body, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    self._answer(response)
                    raise ServerRefused(f"the model server {self.base} answered with status {response.status_code}")
                if response.headers.get("content-type", "").startswith("application/json"):
                    response.read()
                    reply = whole_reply(self._answer(response))
                    attempt.take(reply.text)
                else:
                    reply = streamed_reply(response.iter_lines(), attempt)
        except httpx.RequestError as error:
            attempt.check()  # out of time is no fault of the server's
            raise Transient(named(error)) from error
        with self._lock:
            self._alive = time.monotonic()
        return reply

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        """The JSON of a response. Raises Transient, ServerRefused or WhetstoneError by its status."""
        status = response.status_code
        if status in TRANSIENT:
            after = retry_after_seconds(response.headers.get("retry-after", ""))
            raise Transient(f"status {status}", after, answered=True)
        if status in (401, 403):
            raise WhetstoneError(f"{self.base} wants a key (status {status}): set {KEY_VARIABLE} in the environment")
        if status >= 400:
            raise ServerRefused(f"{self.base} refused the request (status {status}): {message(response)}")
        try:
            value = response.json()
        except ValueError as error:
            raise WhetstoneError(f"{self.base} does not answer with JSON: is it a /v1 address?") from error
        if not isinstance(value, dict):
            raise WhetstoneError(f"{self.base} does not answer as OpenAI's interface does: is it a /v1 address?")
        return value


def split_address(address: str) -> tuple[str, str]:
    """`http://HOST/v1#MODEL` as base address and model (empty without one). Raises WhetstoneError."""
    try:
        parts = urlsplit(address)
        named = parts.hostname and parts.port != 0
    except ValueError:
        named, parts = False, urlsplit("")
    if not named or parts.scheme not in ("http", "https"):
        raise WhetstoneError(f"{address!r} is no address: give one such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise WhetstoneError(f"the address of the model server holds a password: put the key into {KEY_VARIABLE}")
    if parts.query:
        raise WhetstoneError(f"{address!r} has a query, which a model server's address has not: leave it out")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")), parts.fragment
