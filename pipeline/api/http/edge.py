"""What happens to every request, whatever route it takes: an id, safe headers, a limit, a count, no leaked errors.

Owns: the outermost middleware.
Called by: uvicorn through `api/server/app.py`. Next: the routes.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import request_id as request_ids
from pipeline.api.http import errors, metrics
from pipeline.api.http.addresses import counted_as
from pipeline.api.http.headers import DEFAULT_HEADERS, HSTS
from pipeline.api.http.limiter import RequestRate
from pipeline.outcomes import RefusalCode

log = logging.getLogger(__name__)

SLOW_MS = 1_000
"""From when on a request whose answer took so long to begin is logged: how long a file then takes is its reader's matter."""
FAILED_FROM = 500
ASKED_HOW_IT_IS = "/healthz"
"""Its 503 is an answer and no failure: whoever starts a server or watches it asks every few seconds."""


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(
        self, app: ASGIApp, requests: RequestRate, now_ms: Callable[[], int], *, https: bool
    ) -> None:
        """Wrap an app. `requests` limits them for each address; `https` says how browsers reach the server."""
        self._app, self._requests, self._now_ms = app, requests, now_ms
        self._headers = {**DEFAULT_HEADERS, **({"Strict-Transport-Security": HSTS} if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, began = time.perf_counter(), 0, 0.0

        async def send_with_headers(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], time.perf_counter()
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        mine = request_ids.current.set(request_id)
        try:
            limited = self._limited(scope)
            if limited is not None:
                await errors.answer(limited, request_id)(scope, receive, send_with_headers)
                return
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("a request was not sent to its end")
        except Exception:
            # Choice of place: outside all routes, so that no failure shows its insides to a caller.
            log.exception("a request failed")
            if status:
                raise
            failure = errors.ApiError(RefusalCode.INTERNAL)
            await errors.answer(failure, request_id)(scope, receive, send_with_headers)
        finally:
            ended = time.perf_counter()
            metrics.observe(_template(scope), scope["method"], status, ended - started)
            _tell(scope, status, int(((began or ended) - started) * 1000))
            request_ids.current.reset(mine)

    def _limited(self, scope: Scope) -> errors.ApiError | None:
        """Return the refusal of an address that asks too much, None for the others."""
        address = (scope.get("client") or ("", 0))[0]
        wait_ms = self._requests.take(counted_as(address), self._now_ms())
        return errors.too_many(wait_ms) if wait_ms else None


def _request_id(headers: Headers) -> str:
    given = headers.get("X-Request-Id", "")
    return given if request_ids.is_request_id(given) else uuid.uuid4().hex


def _tell(scope: Scope, status: int, waited_ms: int) -> None:
    """Log a request that failed here or was slow: by its route, as its address may hold an id or a token."""
    method, route = metrics.known_method(scope["method"]), _template(scope)
    has_failed = status >= FAILED_FROM and route != ASKED_HOW_IT_IS
    if not has_failed and waited_ms < SLOW_MS:
        return
    log.log(
        logging.WARNING if has_failed else logging.INFO,
        *("%s %s: %d after %d ms", method, route, status, waited_ms),
        extra={"fields": {"method": method, "route": route, "status": status, "ms": waited_ms}},
    )


def _template(scope: Scope) -> str:
    """Return the route's path as it was declared: a path with ids in it would make endless labels."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
