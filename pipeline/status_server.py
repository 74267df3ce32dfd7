"""`/metrics` and `/healthz` of a process that has no HTTP of its own: a worker, or a sink apart.

Owns: the two answers, and that silent connections keep nobody else from them.
Called by: `worker/app.py`, `sink/main.py`.

Each connection has a thread. There are at most `CONNECTIONS_MAX` of them, each for at most `CONNECTION_S`: who comes
when all are taken takes the place of the oldest.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

Health = Callable[[], dict[str, str | None]]
"""Each part by name, and what is wrong with it; None where it is ready."""

CONNECTIONS_MAX = 32
CONNECTION_S = 10.0


class _Quiet(WSGIRequestHandler):
    """Answers without a line in the log for each."""

    timeout = CONNECTION_S

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class StatusServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which there are so many and for so long and no more."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], health: Health) -> None:
        """Listen. Raises OSError where the port is taken."""
        super().__init__(address, _Quiet)
        self.set_app(_answers(health))
        self._open: dict[socket.socket, float] = {}
        self._lock = Lock()

    def server_bind(self) -> None:
        """Bind the port. The base class would ask for the name of its address too, and a resolver may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread, and end those whose time is over."""
        with self._lock:
            now_s = time.monotonic()
            self._open[request] = now_s
            oldest_first = list(self._open.items())
            for place, (connection, since_s) in enumerate(oldest_first):
                if now_s - since_s > CONNECTION_S or place < len(oldest_first) - CONNECTIONS_MAX:
                    _end(connection)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is done."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's parameters
        """Say in one line that a connection ended before its answer."""
        log.info("a connection to the status server ended early")


def _end(connection: socket.socket) -> None:
    """Make whoever reads from a connection find its end."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection was gone already")


def _answers(health: Health) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    metrics = make_wsgi_app()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return list(metrics(environ, start_response))
        if path != "/healthz":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics or /healthz\n"]
        parts = health()
        status = "200 OK" if not any(parts.values()) else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({name: problem or "ok" for name, problem in parts.items()}).encode()]

    return answer


def serve(host: str, port: int, health: Health) -> StatusServer:
    """Answer in threads for as long as the process lives. Raises OSError where the port is taken."""
    server = StatusServer((host, port), health)
    Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server
