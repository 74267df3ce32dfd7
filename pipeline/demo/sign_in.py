"""Stand in for the dashboard that signs members in: an address that opens the overview, as often as it is asked.

Owns: that address, and what it says before there is a product to open.
Called by: `cli/demo.py`. It listens on loopback alone, and who does not know the whole address gets nothing.

A session in a link works once and for a minute, so each visit is sent on with a new one.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from pipeline.api.http.sessions import DEFAULT_TTL_S, issue
from pipeline.demo.platform import DemoOrg

HOST = "127.0.0.1"
AGAIN_S = 1
_SILENT_S_MAX = 10.0
_STARTING = b"""<!doctype html>
<html lang="en-IN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Starting</title></head>
<body><p>The demo is starting. This page goes on to the overview by itself.</p></body></html>
"""


def link_of(org: DemoOrg, url: str, session_secret: str) -> str:
    """Return a link that signs a browser in as an org's owner: once, and within a minute."""
    return f"{url}/login?token={token_of(org, session_secret)}"


def token_of(org: DemoOrg, session_secret: str) -> str:
    """Return a session of an org's owner."""
    now_ms = time.time_ns() // 1_000_000
    return issue(session_secret, org.org, "owner", org.email, now_ms=now_ms, ttl_s=DEFAULT_TTL_S)


@contextmanager
def sign_in_address(link: Callable[[], str | None]) -> Iterator[str]:
    """Listen for as long as the block runs, and yield the address.

    `link` makes what each visit is sent on to, or None while there is nothing to open: then the visitor's browser
    asks again by itself.
    """
    path = f"/sign-in/{secrets.token_urlsafe(16)}"

    class Visit(BaseHTTPRequestHandler):
        """One visit: sent on, asked to wait, or nothing."""

        timeout = _SILENT_S_MAX

        def do_GET(self) -> None:
            """Send the visitor on."""
            known = hmac.compare_digest(self.path.encode(), path.encode())
            to = link() if known else None
            body = _STARTING if known and to is None else b""
            self.send_response(404 if not known else 303 if to else 200)
            if to:
                self.send_header("Location", to)
            if body:
                self.send_header("Refresh", str(AGAIN_S))
                self.send_header("Content-Type", "text/html")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Visit) as server:
        serving = Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield f"http://{HOST}:{server.server_port}{path}"
        finally:
            server.shutdown()
            serving.join()
