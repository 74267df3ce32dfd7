"""ClickHouse's HTTP interface in front of the embedded engine, as far as the client uses it.

It lets the tests run the product's HTTP client against the real engine: it takes the query, its bound
parameters and settings from where ClickHouse takes them, and answers with its status and headers. Told to,
it misbehaves: tests/support/clickhouse/misbehaviour.py has the ways.

Owns: the interface, and injecting a fault into a statement.
Called by: tests of the client, in their own process; tests/support/clickhouse/process.py, which runs it
as a program with the arguments HOME PORT SEED; tests/support/stack/clickhouse_server.py, in a container.
"""

from __future__ import annotations

import gzip
import queue
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error as DriverError

from tests.support.clickhouse.misbehaviour import INSERT, NONE, OTHER, Choice, Fault, Mixture

HANDLES = 4
"""How many statements run at once, so that a repeated insert may overtake the first one."""
REFUSALS = {
    159: "TIMEOUT_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    745: "SERVER_OVERLOADED",
    999: "KEEPER_EXCEPTION",
}
_INSERT = re.compile(rb"INSERT INTO (\S+)(?: \(([^)]*)\))?\s+FORMAT (\w+)\s*\n")
_IGNORED = {
    "query",
    "database",
    "wait_end_of_query",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "compress",
    "query_id",
}
_PROGRESS = b'X-ClickHouse-Progress: {"read_rows":"100","written_rows":"100"}\r\n'

F = TypeVar("F", bound="Front")
Given = dict[str, str]
Answer = tuple[int, int | None, bytes]
"""HTTP status, ClickHouse's error code if any, and the body."""


class Handler(BaseHTTPRequestHandler):
    """One connection to it."""

    protocol_version = "HTTP/1.1"
    server: Front

    def do_POST(self) -> None:
        """Run one statement, or do to it what is in force."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self._hang_up()
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        given["authorization"] = self.headers.get("Authorization", "")
        self.server.remember(given, body)
        refused = self.server.refusal(self.headers, body)
        if refused is not None:
            self._answer(*refused)
            return
        fault, mixture, chance = self.server.draw(INSERT if _INSERT.match(body) else OTHER)
        if fault is None:
            self._answer(*self.server.run(given, body))
        else:
            _Injury(self, given, body, mixture, chance).inflict(fault)

    do_GET = do_POST  # noqa: N815 - the base class calls it so

    def _answer(self, status: int, code: int | None, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-ClickHouse-Summary", "{}")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self, *, reset: bool = False) -> None:
        """End the connection; the handler's thread may go on without it."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Injury:
    """A statement that meets a fault."""

    def __init__(self, handler: Handler, given: Given, body: bytes, mixture: Mixture, chance: Random) -> None:
        self._handler, self._given, self._body = handler, given, body
        self._mixture, self._chance = mixture, chance

    def inflict(self, fault: Fault) -> None:
        """Do it."""
        ways: dict[Fault, Callable[[], None]] = {
            Fault.RESET: self._reset,
            Fault.CUT: self._cut,
            Fault.ERROR_AFTER: self._error_after,
            Fault.SLOW: lambda: self._wait_then_answer(self._chance.uniform(0, self._mixture.slow_s)),
            Fault.LATE: lambda: self._wait_then_answer(self._mixture.late_s),
            Fault.LATER: self._later,
            Fault.CLOSED: lambda: self._handler._hang_up(reset=self._chance.random() < 0.5),
            Fault.EARLY: self._early,
            Fault.HIDDEN: lambda: self._refuse(status=200),
            Fault.REFUSED: self._refuse,
            Fault.BUSY: self._busy,
        }
        ways[fault]()

    def _run(self) -> Answer:
        return self._handler.server.run(self._given, self._body)

    def _reset(self) -> None:
        self._run()
        self._handler._hang_up(reset=self._chance.random() < 0.5)

    def _cut(self) -> None:
        _, _, body = self._run()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-ClickHouse-Summary: {}\r\n\r\n"
        chunk = b"%x\r\n%s\r\n" % (len(body) + 1, body)
        whole = head + chunk
        self._handler.wfile.write(whole[: self._chance.randrange(len(head), len(whole))])
        self._handler._hang_up()

    def _error_after(self) -> None:
        self._run()
        self._refuse()

    def _wait_then_answer(self, seconds: float) -> None:
        time.sleep(seconds)
        self._handler._answer(*self._run())

    def _later(self) -> None:
        self._handler._hang_up(reset=True)
        time.sleep(self._chance.uniform(0, self._mixture.late_s))
        self._run()

    def _early(self) -> None:
        # Only who asks for progress is sent a status before the statement has been carried out.
        if self._given.get("send_progress_in_http_headers") == "1":
            others = (
                b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\nX-ClickHouse-Timezone: UTC\r\n"
            )
            head = b"HTTP/1.1 200 OK\r\n" + (others if self._chance.random() < 0.5 else b"")
            self._handler.wfile.write(head + _PROGRESS * self._chance.randint(1, 3))
        self._handler._hang_up()

    def _refuse(self, status: int = 500) -> None:
        code = self._chance.choice(sorted(REFUSALS))
        text = f"Code: {code}. DB::Exception: injected. ({REFUSALS[code]}) (version 26.9)"
        self._handler._answer(status, code, text.encode())

    def _busy(self) -> None:
        self._handler._answer(503, None, b"<html><body>503 Service Unavailable</body></html>")


class Front(ThreadingHTTPServer):
    """The server. `seen` are the statements given to it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        path: str,
        port: int = 0,
        choice: Choice | None = None,
        *,
        host: str = "127.0.0.1",
        handler: type[Handler] = Handler,
    ) -> None:
        """Listen, on a free port where none is given. Raises OSError where the port is taken."""
        super().__init__((host, port), handler)
        self.seen: list[tuple[Given, bytes]] = []
        self._choice = choice
        self._clients = [clickhouse_connect.get_client(interface="chdb", path=path) for _ in range(HANDLES)]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for client in self._clients:
            self._free.put(client)

    def remember(self, given: Given, body: bytes) -> None:
        """Keep a statement in `seen`, in a test's own process; elsewhere they would only grow."""
        if self._choice is None:
            self.seen.append((given, body))

    def refusal(self, _headers: Message, _body: bytes) -> Answer | None:
        """Return why whoever sends a statement may not; this front lets everybody in."""
        return None

    def draw(self, kind_of_statement: str) -> tuple[Fault | None, Mixture, Random]:
        """Return what to do to a statement; nothing where nobody chooses."""
        return self._choice.draw(kind_of_statement) if self._choice else (None, NONE, Random(0))

    def run(self, given: Given, body: bytes) -> Answer:
        """Return what the engine answers to a statement given as ClickHouse takes it."""
        client = self._free.get()
        try:
            return 200, None, _run(client, given, body)
        except DriverError as error:
            return 500, error.code, str(error).encode()
        finally:
            self._free.put(client)

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that have gone."""

    def close_engine(self) -> None:
        """Close the engine's handles."""
        for client in self._clients:
            client.close()


def _run(client: Any, given: Given, body: bytes) -> bytes:
    parameters = {name: value for name, value in given.items() if name.startswith("param_")}
    settings = {n: v for n, v in given.items() if n not in _IGNORED and n not in parameters}
    settings.pop("authorization")
    client.database = given.get("database")
    insert = _INSERT.match(body)
    if insert is not None:
        table, columns, output = (part.decode() for part in insert.groups(b""))
        # Blocks name their columns themselves.
        names = [name.strip().strip("`") for name in columns.split(",")] if columns else None
        client.raw_insert(table, names, body[insert.end() :], settings=settings, fmt=output)
        return b""
    sql = given.get("query") or body.decode()
    # The parameters are in the engine's own text form already, so they pass by the client's binding.
    answer: bytes = client._backend.execute_raw_query(sql, parameters, None, _Runtime(given, settings), None)
    return answer


class _Runtime:
    def __init__(self, given: Given, settings: dict[str, str]) -> None:
        self.database, self.settings = given.get("database"), settings


@contextmanager
def http_front(path: str) -> Iterator[Front]:
    """Serve the embedded engine of a directory over HTTP on a free port, from this process."""
    with serving(Front(path)) as front:
        yield front


@contextmanager
def serving(front: F) -> Iterator[F]:
    """Have a front serve from a thread of this process, and close its engine's handles afterwards."""
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        front.close_engine()


def main(home: str, port: str, seed: str) -> None:
    """Serve until ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Front(f"{home}/data", int(port), Choice(Path(home), seed)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
