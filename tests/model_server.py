"""A model server in a process of its own: OpenAI's chat completions over the real engine and a tiny real model.

`/v1` obeys a schema that is spelled as `response_format`; `/format/v1` one that is spelled as `format`, and so on;
what is not obeyed is answered with some text. `/locked/v1` wants KEY, `/plain/v1` and `/new/v1` refuse some
parameters. Tests talk to it through `tests.faulty_proxy` where things should go wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.command import REPOSITORY

KEY = "open-sesame"
FREE_TEXT = {"type": "string", "maxLength": 20}


def schema_in(body: Mapping[str, Any], spelling: str) -> Any:
    """The schema in a request, where it is spelled so; FREE_TEXT where it is not."""
    form = body.get("response_format") or {}
    found = {
        "response_format": (form.get("json_schema") or {}).get("schema") if form.get("type") == "json_schema" else None,
        "json_object": form.get("schema") if form.get("type") == "json_object" else None,
        "structured_outputs": (body.get("structured_outputs") or {}).get("json"),
    }.get(spelling, body.get(spelling))
    return found or FREE_TEXT


def serve(model: Path, port: int, window: int) -> None:
    from agent.engine.chat import Chat
    from agent.engine.decode import Request
    from agent.engine.models import load_model
    from agent.engine.sampling import Sampling
    from agent.engine.scheduler import Scheduler
    from agent.policies.local import engine_for
    from agent.types import Message, Prompt

    loaded = load_model(str(model), dtype="fp32", cache=model.parent / "cache")
    chat, scheduler = Chat(loaded.tokenizer), Scheduler(engine_for(loaded), rows=8)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("/v1/models"):
                self.send(200, {"data": [{"id": model.name, "max_model_len": window}]})
            else:
                self.send(404, {"error": {"message": "no such page"}})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            spelling = self.path.split("/")[1].replace("v1", "response_format").replace("locked", "response_format")
            if self.path.startswith("/locked") and self.headers.get("authorization") != f"Bearer {KEY}":
                self.send(401, {"error": {"message": "wrong key"}})
                return
            refused = {"plain": ("stream_options", "response_format"), "new": ("max_tokens",)}.get(spelling, ())
            if unknown := [name for name in refused if name in body]:
                self.send(422, {"detail": f"not supported: {unknown}"})
                return
            schema = schema_in(body, spelling)
            if "minLength" in json.dumps(schema) and spelling == "json_schema":  # as some grammars do
                self.send(400, {"error": {"message": "keyword minLength is not supported"}})
                return
            sections = {"system": "system", "user": "goal", "assistant": "history"}
            prompt = Prompt(tuple(Message(m["role"], m["content"], sections[m["role"]]) for m in body["messages"]))  # type: ignore[arg-type]
            sampling = Sampling(temperature=body.get("temperature", 0), seed=body.get("seed", 0))
            limit = body.get("max_tokens") or body["max_completion_tokens"]
            ids = chat.encode(prompt)
            request = Request(f"{time.monotonic_ns()}", ids, schema, max_tokens=limit, sampling=sampling)
            done = scheduler.complete(request)
            scheduler.forget(request.session)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for start in range(0, len(done.text), 6):
                self.event({"choices": [{"delta": {"content": done.text[start : start + 6]}}]})
            self.event({"choices": [{"delta": {}, "finish_reason": done.finish}]})
            usage = {"prompt_tokens": done.usage.prompt, "completion_tokens": done.usage.generated}
            self.event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True

        def event(self, data: Any) -> None:
            self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()

        def send(self, status: int, data: Any) -> None:
            raw = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            return

    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class ServerProcess:
    """The server of this file as a process that can be killed and started again on its port."""

    def __init__(self, model: Path) -> None:
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._argv = [sys.executable, "-m", "tests.model_server", str(model), "--port", str(self.port)]
        self.start()

    @property
    def address(self) -> str:
        return self.address_for("v1")

    def address_for(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, cwd=REPOSITORY)

    def wait(self) -> None:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{self.address}/models", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, "the server ended"
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def running(model: Path) -> Iterator[ServerProcess]:
    """A server that answers, for as long as the block lasts."""
    server = ServerProcess(model)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--window", type=int, default=3000)
    chosen = parser.parse_args()
    serve(chosen.model, chosen.port, chosen.window)
