"""Stand in for the dashboard that signs members in: an address that opens the overview, as often as it is asked.

Owns: that address. A session in a link works once and for a minute, so each visit is sent on with a new one.
Called by: `demo/main.py`. It listens on loopback alone, and who does not know the whole address gets nothing.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

HOST = "127.0.0.1"
_SILENT_S_MAX = 10.0


@contextmanager
def sign_in_address(link: Callable[[], str]) -> Iterator[str]:
    """Listen for as long as the block runs, and yield the address; `link` makes what each visit is sent on to."""
    path = f"/sign-in/{secrets.token_urlsafe(16)}"

    class Visit(BaseHTTPRequestHandler):
        """One visit: sent on, or nothing."""

        timeout = _SILENT_S_MAX

        def do_GET(self) -> None:
            """Send the visitor on."""
            known = hmac.compare_digest(self.path.encode(), path.encode())
            self.send_response(303 if known else 404)
            if known:
                self.send_header("Location", link())
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", "0")
            self.end_headers()

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
