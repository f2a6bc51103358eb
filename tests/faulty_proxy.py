"""A proxy between a client and a server that does, for each request in turn, what a bad network or server does."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = tuple[str, float]
"""`("status", 503)`, `("retry_after", seconds)`, `("retry_date", seconds from now)`,
`("drop", bytes)`, `("reset", 0)`, `("slow", seconds)`."""


class FaultyProxy:
    """Forwards POSTs to `port` on this machine. `faults` are used up one a request; without any it only forwards."""

    def __init__(self, port: int, *faults: Fault, on_request: Callable[[int], None] | None = None) -> None:
        self.faults = deque(faults)
        self.requests: list[float] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.forward("GET", b"", -1)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                proxy.requests.append(time.monotonic())
                if on_request is not None:
                    on_request(len(proxy.requests))
                kind, amount = proxy.faults.popleft() if proxy.faults else ("", 0.0)
                if kind == "status":
                    self.send_error(int(amount))
                elif kind in ("retry_after", "retry_date"):
                    date = formatdate(time.time() + amount, usegmt=True)
                    self.send_response(429)
                    self.send_header("retry-after", f"{amount:g}" if kind == "retry_after" else date)
                    self.send_header("content-length", "0")
                    self.end_headers()
                elif kind == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                elif kind == "slow":
                    time.sleep(amount)
                    self.forward("POST", body, -1)
                else:
                    self.forward("POST", body, int(amount) if kind == "drop" else -1)

            def forward(self, method: str, body: bytes, limit: int) -> None:
                """Pass the answer on; after `limit` bytes of its body the connection is closed (-1: never)."""
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {name: self.headers[name] for name in ("authorization", "content-type") if self.headers[name]}
                try:
                    server.request(method, self.path, body, headers)
                    answer = server.getresponse()
                except OSError:
                    self.send_error(502)
                    return
                self.send_response(answer.status)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("connection", "close")
                self.end_headers()
                left = limit
                while left and (data := answer.read1(4096)):
                    data = data if left < 0 else data[:left]
                    self.wfile.write(data)
                    left -= len(data) if left > 0 else 0
                server.close()

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """The client went away, as it does here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
