"""The headers that every answer has, whoever makes it.

Called by: `api/http/edge.py`, `api/http/bounded_connection.py`.
"""

from __future__ import annotations

DEFAULT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""A route may set its own of these: pages need another policy, public answers may be cached."""

HSTS = "max-age=31536000"
"""`Strict-Transport-Security` (RFC 6797) of a server that browsers reach over https: not without it for a year."""
