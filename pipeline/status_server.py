"""`/metrics` and `/healthz` of a process that has no HTTP of its own: a worker, or a sink apart.

Owns: the two answers. Called by: `worker/app.py`, `sink/main.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Health = Callable[[], dict[str, str | None]]
"""Each part by name, and what is wrong with it; None where it is ready."""


class _Quiet(WSGIRequestHandler):
    """Answers without a line in the log for each."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(host: str, port: int, health: Health) -> None:
    """Answer in a thread for as long as the process lives. Raises OSError where the port is taken."""
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

    server = make_server(host, port, answer, handler_class=_Quiet)
    Thread(target=server.serve_forever, name="status", daemon=True).start()
