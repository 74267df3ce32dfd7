"""The API's own metrics: how many requests, how they ended, how long they took.

Owns: their names. No org, key or user is ever a label; a route is named by its template.
Called by: `api/http/edge.py`, `api/http/bounded_connection.py`, `api/routes/rankings.py`.
"""

from __future__ import annotations

from pipeline.telemetry import API

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

HTTP_REQUESTS = API.counter("metering_http_requests_total", "Requests answered", ["route", "method", "code"])
HTTP_SECONDS = API.histogram("metering_http_request_seconds", "Time to answer", ["route"], buckets=_SECONDS)
CONNECTIONS_REFUSED = API.counter(
    "metering_http_connections_refused_total", "Connections let go because a limit was exceeded", ["code"]
)
RANKINGS_COMPUTED = API.counter(
    "metering_rankings_computed_total", "Rankings computed and not taken from memory"
)


def observe(route: str, method: str, status: int, seconds: float) -> None:
    """Count one answered request; `status` is 0 where the caller left before the answer."""
    HTTP_REQUESTS.labels(route, known_method(method), str(status)).inc()
    HTTP_SECONDS.labels(route).observe(seconds)


def known_method(method: str) -> str:
    """Return an HTTP method; `other` for a word that somebody made up."""
    return method if method in _METHODS else "other"
