"""What a process says of itself on a port of its own: `/livez`, `/readyz`, `/healthz` and `/metrics`.

Owns: what the four answer, that silent connections keep nobody else from them, and how a role that is one task is stopped.
Called by: `worker/app.py`, `sink/main.py`, `notary/main.py`, `api/server/main.py`.

`/livez` is 200 as long as the event loop moves: whoever finds it is not, starts the process again. `/readyz` is 200 while
the role does its work, and 503 from the moment on that it is told to stop. `/healthz` names each part of the role, and
is 200 once all of them are ready. All are answered from memory: asking costs neither Kafka nor ClickHouse anything. The text of `/metrics` is made once a
second.

Each connection has a thread. There are at most `CONNECTIONS_MAX` of them, each for at most `CONNECTION_S`: who comes
when all are taken takes the place of the oldest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.exposition import MetricsText
from pipeline.kafka.attempts import ClientCancelledError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

Health: TypeAlias = Callable[[], Mapping[str, str | None]]
"""Each part by name, and what is wrong with it; None where it is ready."""

Answer: TypeAlias = tuple[bool, Mapping[str, object]]
"""Whether an answer is 200 or 503, and the JSON object in it."""

CONNECTIONS_MAX = 32
CONNECTION_S = 10.0
BEAT_S = 1.0
STILL_MAX_S = 30.0
"""So long an event loop may stand still and count as alive. A large decision or a restore holds it for a second or two."""


class RoleStatus:
    """What a role says of itself. Its loop tells how it is; the threads of the status server read."""

    def __init__(self, health: Health, ready: Callable[[], Answer] | None = None) -> None:
        """Start alive. `ready` answers `/readyz` until the role stops; where absent, it is ready as `health` is."""
        self._health, self._ready = health, ready or self.health
        self._beat_at_s = time.monotonic()
        self._is_stopping = False

    async def beat(self) -> None:
        """Show that the event loop moves, until cancelled."""
        while True:
            self._beat_at_s = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def stop(self) -> None:
        """Note that the role was told to stop: from now on it is not ready, though it may go on answering."""
        self._is_stopping = True

    def live(self) -> Answer:
        """Return what `/livez` says."""
        still_s = time.monotonic() - self._beat_at_s
        if still_s > STILL_MAX_S:
            return False, {"process": f"its event loop has stood still for {still_s:.0f} s"}
        return True, {"process": "ok"}

    def ready(self) -> Answer:
        """Return what `/readyz` says."""
        return (False, {"process": "stopping"}) if self._is_stopping else self._ready()

    def health(self) -> Answer:
        """Return what `/healthz` says."""
        parts = self._health()
        return not any(parts.values()), {name: problem or "ok" for name, problem in parts.items()}


class _Quiet(WSGIRequestHandler):
    """Answers without a line in the log for each."""

    timeout = CONNECTION_S

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class StatusServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which there are so many and for so long and no more."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], status: RoleStatus, metrics: MetricsText) -> None:
        """Listen. Raises OSError where the port is taken."""
        super().__init__(address, _Quiet)
        self.set_app(_answers(status, metrics))
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


def _answers(
    status: RoleStatus, metrics: MetricsText
) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    said = {"/livez": status.live, "/readyz": status.ready, "/healthz": status.health}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [metrics.text()]
        if path not in said:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [f"/metrics, {', '.join(said)}\n".encode()]
        is_good, words = said[path]()
        start_response(
            "200 OK" if is_good else "503 Service Unavailable", [("Content-Type", "application/json")]
        )
        return [json.dumps(words).encode()]

    return answer


def serve(host: str, port: int, status: RoleStatus, metrics: MetricsText) -> StatusServer:
    """Answer in threads for as long as the process lives. Raises OSError where the port is taken."""
    server = StatusServer((host, port), status, metrics)
    Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server


async def run_until_stopped(work: Coroutine[None, None, None], status: RoleStatus) -> None:
    """Do a role's work until SIGTERM or SIGINT. Raises what ends it before, a cancellation that nobody asked for too."""
    task = asyncio.create_task(work)
    beating = asyncio.create_task(status.beat())

    def stop() -> None:
        status.stop()
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelling():
            raise ClientCancelledError from None
    finally:
        beating.cancel()
