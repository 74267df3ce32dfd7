"""What happens to every request, whatever route it takes: an id, safe headers, a count, no leaked errors.

Owns: the outermost middleware.
Called by: uvicorn through `api/server/app.py`. Next: the routes.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.http import errors, metrics
from pipeline.outcomes import RefusalCode

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}\Z")

_DEFAULT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""A route may set its own of these: pages need another policy, public answers may be cached."""


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            # Choice of place: outside all routes, so that no failure shows its insides to a caller.
            log.exception("request %s failed", request_id)
            if status:
                raise
            failure = errors.ApiError(RefusalCode.INTERNAL)
            await errors.answer(failure, request_id)(scope, receive, send_with_headers)
        finally:
            metrics.observe(_template(scope), scope["method"], status, time.perf_counter() - started)


def _request_id(headers: Headers) -> str:
    given = headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.match(given) else uuid.uuid4().hex


def _template(scope: Scope) -> str:
    """Return the route's path as it was declared: a path with ids in it would make endless labels."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
