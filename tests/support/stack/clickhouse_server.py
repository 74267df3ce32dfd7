"""What stands in for ClickHouse's server in a container: the embedded engine behind its HTTP interface.

Owns: its ports, who may ask, and its words at the start. Run inside of the image that
tests/support/stack/images/clickhouse/Dockerfile makes, as `/usr/bin/clickhouse-server`.

Of the server's files it takes the users whose passwords come from the environment, and nothing else; a file that is no
XML ends it, as it would the server.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support.clickhouse.front import Front, Given, Handler

DATA = "/var/lib/clickhouse/embedded"
SETTINGS = Path("/etc/clickhouse-server")
HTTP_PORT = 8123
METRICS_PORT = 9363
METRICS = b"""# TYPE ClickHouseMetrics_Query gauge
ClickHouseMetrics_Query 0
# TYPE ClickHouseAsyncMetrics_Uptime gauge
ClickHouseAsyncMetrics_Uptime 1
"""


def users() -> dict[str, str]:
    """Return the users and their passwords, of the files and of the real image's own variables. Raises ParseError."""
    trees = [ET.parse(at) for at in sorted(SETTINGS.glob("*.d/*.xml"))]
    named = [user for tree in trees for each in tree.findall("users") for user in each]
    found = {user.tag: password for user in named if (password := _password(user)) is not None}
    if "CLICKHOUSE_USER" in os.environ:
        found[os.environ["CLICKHOUSE_USER"]] = os.environ.get("CLICKHOUSE_PASSWORD", "")
    return found


def _password(user: ET.Element) -> str | None:
    password = user.find("password")
    return os.environ[password.attrib["from_env"]] if password is not None else None


class Door(Handler):
    """Answers `/ping` to anybody, and statements to users."""

    def do_HEAD(self) -> None:  # noqa: N802 - the base class calls it so
        """Answer a health check that wants no body."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802 - the base class calls it so
        """Say that the server is there, or answer a statement."""
        if self.path == "/ping":
            self._answer(200, None, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:  # noqa: N802 - the base class calls it so
        """Answer a statement of a user; others get the server's own number for a wrong password."""
        assert isinstance(self.server, Server)
        if self.headers.get("Authorization", "") in self.server.allowed:
            super().do_POST()
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(
                403, 516, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)"
            )


class Server(Front):
    """The front, open to the container's network."""

    def __init__(self) -> None:
        """Open the engine and listen. Raises OSError, ParseError."""
        pairs = [f"{name}:{password}".encode() for name, password in users().items()]
        self.allowed = {f"Basic {base64.b64encode(pair).decode()}" for pair in pairs}
        super().__init__(DATA, HTTP_PORT, host="0.0.0.0", handler=Door)

    def remember(self, given: Given, body: bytes) -> None:
        """Keep nothing of a statement."""


class _Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(METRICS)))
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server()
    metrics = ThreadingHTTPServer(("0.0.0.0", METRICS_PORT), _Metrics)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    print("Ready for connections.", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
