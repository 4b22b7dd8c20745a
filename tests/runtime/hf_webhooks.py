"""A receiver of webhooks for the tests: a real HTTP server, which answers as it is told."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from holdfast.runtime import verify_signature


@dataclass
class Request:
    """What came."""

    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The envelopes in it."""
        found = msgspec.json.decode(self.body)
        return found if isinstance(found, list) else [found]


Answer = int | tuple[int, dict[str, str]] | None
"""A status, with headers if need be; None: the connection ends without one."""


class Receiver:
    """`answer`: what it says to a request; `taken`: those that it said yes to, each verified. `busiest`: requests that
    were there at once, at most."""

    def __init__(self, secret: Any, answer: Callable[[Request], Answer] = lambda request: 204) -> None:
        self.secret, self.answer = secret, answer
        self.requests, self.taken = list[Request](), list[Request]()
        self.there = self.busiest = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers["content-length"]))
        request = Request({name.lower(): value for name, value in http.headers.items()}, body)
        with self._lock:
            self.requests.append(request)
            self.there += 1
            self.busiest = max(self.busiest, self.there)
        answer = self.answer(request)
        with self._lock:
            self.there -= 1
            if answer is None:
                http.close_connection = True
                return
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            if 200 <= status < 300:
                verify_signature(self.secret, request.headers, request.body)
                self.taken.append(request)
        http.send_response(status)
        for name, value in {"content-length": "0", **headers}.items():
            http.send_header(name, value)
        http.end_headers()

    @property
    def places(self) -> list[tuple[str, int]]:
        """Stream's id and version of what it took."""
        events = [event for request in self.taken for event in request.events]
        return [(event["subject"].partition("/")[2], int(event["sequence"])) for event in events]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiver(secret: Any, answer: Callable[[Request], Answer] = lambda request: 204) -> Iterator[Receiver]:
    """One that runs."""
    made = Receiver(secret, answer)
    made.start()
    try:
        yield made
    finally:
        made.stop()
