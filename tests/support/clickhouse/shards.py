"""Shards as databases of the real engine, each behind a server of its own.

Called by: tests/integration/test_shards.py and test_shards_rebuilt.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.shards import Database, open_database
from tests.support.clickhouse.front import serving
from tests.support.clickhouse.replica import Replica


def url_of(*servers: Replica, cluster: str = "") -> str:
    """Return what METERING_CLICKHOUSE_URL is where the shards are these servers'."""
    hosts = ";".join(f"127.0.0.1:{server.server_port}" for server in servers)
    return f"http://{hosts}/metering{f'?cluster={cluster}' if cluster else ''}"


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a database, and close it afterwards."""
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def servers_of(engine: Engine, home: str, *names: str, together: bool = False) -> Iterator[list[Replica]]:
    """Serve databases of an engine that do not exist yet; `together`: ON CLUSTER reaches all of them."""
    databases = [f"{engine.database}_{name}" for name in names]
    for database in databases:
        engine.command(f"CREATE DATABASE {database}", in_database=False)
    try:
        with ExitStack() as stack:
            yield [
                stack.enter_context(serving(Replica(home, each, databases if together else (each,))))
                for each in databases
            ]
    finally:
        for database in databases:
            engine.command(f"DROP DATABASE {database} SYNC", in_database=False)
