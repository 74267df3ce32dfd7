"""The figures of ClickHouse's own exporter that the alerts ask for, asked of the engine that runs here, which has none.

Called by: tests/runbooks. Named as a ClickHouse server names them; there they come of `system.asynchronous_metrics`, here of
`system.parts` and `system.disks`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.clickhouse.process import ClickHouse

NAMES = ("MaxPartCountForPartition", "FilesystemMainPathAvailableBytes", "FilesystemMainPathTotalBytes")
QUERY = """
    SELECT
        (SELECT max(parts) FROM (
            SELECT count() AS parts FROM system.parts WHERE active GROUP BY database, table, partition_id
        )),
        free_space,
        total_space
    FROM system.disks WHERE name = 'default'
"""


def figures(clickhouse: ClickHouse) -> dict[str, int]:
    """Return each figure by its name."""
    [row] = clickhouse.ask(QUERY)
    return {name: int(value or 0) for name, value in zip(NAMES, row, strict=True)}


class _Page(ThreadingHTTPServer):
    def __init__(self, clickhouse: ClickHouse) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.clickhouse = clickhouse

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing of a Prometheus that did not wait for its answer."""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the figures of this moment."""
        assert isinstance(self.server, _Page)
        found = figures(self.server.clickhouse)
        body = "".join(f"ClickHouseAsyncMetrics_{name} {value}\n" for name, value in found.items()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def exporting(clickhouse: ClickHouse) -> Iterator[str]:
    """Serve the figures from a thread; yield host:port."""
    page = _Page(clickhouse)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{page.server_address[1]}"
    finally:
        page.shutdown()
        page.server_close()
