"""ClickHouse's HTTP interface in front of the embedded engine, as far as the client uses it.

It lets the tests run the product's HTTP client against the real engine: it takes the query, its bound
parameters and settings from where ClickHouse takes them, and answers with its status and headers.
"""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error as DriverError

_INSERT = re.compile(r"INSERT INTO (\S+) \((.*)\)\s+FORMAT (\w+)\s*\Z", re.DOTALL)
_IGNORED = {"query", "database", "wait_end_of_query", "send_progress_in_http_headers", "compress", "query_id"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def do_POST(self) -> None:
        """Run one statement."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        given["authorization"] = self.headers.get("Authorization", "")
        self.server.seen.append((given, body))
        try:
            answer, status, code = self.server.run(given, body), 200, None
        except DriverError as error:
            answer, status, code = str(error).encode(), 500, error.code
        self.send_response(status)
        self.send_header("X-ClickHouse-Summary", "{}")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815 - the base class calls it so

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Front(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self._lock = threading.Lock()
        self._client = clickhouse_connect.get_client(interface="chdb", path=path)

    def run(self, given: dict[str, str], body: bytes) -> bytes:
        """Return what the engine answers to a statement given as ClickHouse takes it."""
        parameters = {name: value for name, value in given.items() if name.startswith("param_")}
        settings = {n: v for n, v in given.items() if n not in _IGNORED and n not in parameters}
        settings.pop("authorization")
        with self._lock:
            self._client.database = given.get("database")
            insert = _INSERT.match(given.get("query", ""))
            if insert is not None:
                columns = [name.strip().strip("`") for name in insert[2].split(",")]
                self._client.raw_insert(insert[1], columns, body, settings=settings, fmt=insert[3])
                return b""
            sql = given.get("query") or body.decode()
            backend = self._client._backend  # type: ignore[attr-defined]
            # The parameters are in the engine's own text form already, so they pass by the client's binding.
            result: bytes = backend.execute_raw_query(sql, parameters, None, _Runtime(given, settings), None)
            return result


class _Runtime:
    def __init__(self, given: dict[str, str], settings: dict[str, str]) -> None:
        self.database, self.settings = given.get("database"), settings


@contextmanager
def http_front(path: str) -> Iterator[_Front]:
    """Serve the embedded engine of a directory over HTTP on a free port."""
    front = _Front(path)
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        front._client.close()
