"""Lend the driver's clients to one caller at a time, or to many, as the kind of engine allows.

Owns: how many handles or connections there are, and their time limits.
Called by: `clickhouse/client.py`. Next: clickhouse-connect.

An embedded engine's handle serves one call at a time, so handles are lent; they are opened together
and once. A server's client is a connection pool itself, so one is shared. Each lane has handles of its
own: a slow page never holds up the sink, nor the sink a page, nor an audit either of them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Any, Protocol

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as DriverError
from clickhouse_connect.driver.httpclient import HttpClient
from clickhouse_connect.driver.httputil import get_pool_manager
from urllib3 import Timeout

from pipeline.clickhouse import cluster
from pipeline.clickhouse.cluster import (
    CATCH_UP_SETTINGS,
    REPLICATED,
    WHICH_SHARD,
    WHICH_SHARD_BEFORE,
    Shard,
    misplaced,
)
from pipeline.clickhouse.errors import (
    NOT_THERE,
    UNKNOWN_IDENTIFIER,
    EngineError,
    EngineUnavailable,
    engine_failure,
    is_of_one_replica,
)
from pipeline.clickhouse.location import EmbeddedLocation, ServerAddress, ServerLocation
from pipeline.clickhouse.refused import Asked
from pipeline.tls import TlsFiles, TlsFilesError

CONNECT_SECONDS = 2
GREETING_SECONDS = 4
READ_SECONDS = 6
WRITE_SECONDS = 60
SCAN_SECONDS = 3600
_SLACK_SECONDS = 1


class Lane(Enum):
    """What a client is lent for: how many there are, embedded and to a server, and for how long a call."""

    READ = (4, 16, READ_SECONDS)
    WRITE = (2, 8, WRITE_SECONDS)
    SCAN = (1, 2, SCAN_SECONDS)

    def __init__(self, handles: int, connections: int, seconds: int) -> None:
        """Name the parts of the value."""
        self.handles = handles
        self.connections = connections
        self.seconds = seconds


class Pool(Protocol):
    """Lends clients that are set to a database."""

    threads: int
    """How many calls may run at once, the sink's aside."""
    writers: int
    """How many inserts of the sink may run at once."""

    def lend(self, database: str, lane: Lane) -> AbstractContextManager[Client]:
        """Lend a client for one call. Raises EngineUnavailable where none can be had in time."""

    def close(self) -> None:
        """Close every client. What is asked afterwards fails."""


class EmbeddedPool:
    """Handles on the engine in this process."""

    threads = Lane.READ.handles + Lane.SCAN.handles
    writers = Lane.WRITE.handles

    def __init__(self, location: EmbeddedLocation) -> None:
        """Open all handles. Raises EngineError where the directory cannot be used."""
        self._clients: list[Client] = []
        self._free: dict[Lane, queue.LifoQueue[Client]] = {lane: queue.LifoQueue() for lane in Lane}
        try:
            for lane, free in self._free.items():
                for _ in range(lane.handles):
                    client = clickhouse_connect.get_client(interface="chdb", path=location.path)
                    self._clients.append(client)
                    free.put(client)
        except (DriverError, RuntimeError, OSError) as error:
            self.close()
            raise EngineError(f"cannot open the embedded engine on {location.path}: {error}") from error

    @contextmanager
    def lend(self, database: str, lane: Lane) -> Iterator[Client]:
        """Lend a handle for one call, waiting for a free one."""
        free = self._free[lane]
        try:
            client = free.get(timeout=lane.seconds)
        except queue.Empty:
            raise EngineUnavailable("every handle of the embedded engine is busy") from None
        try:
            client.database = database
            yield client
        except DriverError as error:
            raise engine_failure(error) from error
        finally:
            free.put(client)

    def close(self) -> None:
        """Close every handle."""
        for client in self._clients:
            client.close()


class ServerPool:
    """Connections to a server or to the replicas of a shard, opened at the first call, so that one that is down stops nobody.

    One replica is in use. Where it does not answer the next one is, once that has caught up with what the others have
    confirmed: so nobody who asks here sees less than before. None is that says that it is of another shard.
    """

    threads = Lane.READ.connections + Lane.SCAN.connections
    writers = Lane.WRITE.connections

    def __init__(self, location: ServerLocation, tls: TlsFiles) -> None:
        """Connect to nothing yet. The files of `tls` are read with the first connection of each kind."""
        self._location, self._tls = location, tls
        self._replicas = location.replicas
        self._next = 0
        self._in_use: ServerAddress | None = None
        self._is_placed = location.shard.total == 1
        """Whether who has been in use need not be asked again which shard it is."""
        self._lock = threading.Lock()
        self._clients: dict[tuple[ServerAddress, str, Lane], Client] = {}

    @contextmanager
    def lend(self, database: str, lane: Lane) -> Iterator[Client]:
        """Lend the client that all callers of this kind share."""
        address = self._replicas[self._next]
        is_known = address == self._in_use and self._is_placed
        client = self._clients.get((address, database, lane)) if is_known else None
        if client is None:
            address, client = self._open(database, lane)
        try:
            yield client
        except DriverError as error:
            failure = engine_failure(error, Asked(str(address), self._location.user))
            if is_of_one_replica(error):
                self._leave(address)
            raise failure from error

    def _open(self, database: str, lane: Lane) -> tuple[ServerAddress, Client]:
        """Return a client of a replica that answers and has caught up, beginning with the one whose turn it is."""
        # Choice of place: the lock is held while connecting, so that a server that comes back is greeted
        # by one caller and not by all of them.
        if not self._lock.acquire(timeout=2 * CONNECT_SECONDS):
            raise EngineUnavailable("the server does not answer")
        try:
            failed: DriverError | None = None
            for _ in self._replicas:
                address = self._replicas[self._next]
                try:
                    return address, self._use(address, database, lane)
                except DriverError as error:
                    failed = error
                except TlsFilesError as error:
                    raise EngineUnavailable(str(error), needs_operator=True) from error
                self._next = (self._next + 1) % len(self._replicas)
            assert failed is not None
            raise engine_failure(failed, Asked(str(address), self._location.user)) from failed
        finally:
            self._lock.release()

    def _use(self, address: ServerAddress, database: str, lane: Lane) -> Client:
        """Return a client of a replica. Raises DriverError where it does not answer or does not catch up in time."""
        key = (address, database, lane)
        client = self._clients.get(key) or self._connect(address, database, lane)
        # Others wait for a greeting, which this belongs to, so a new client's limit is still that of one.
        if address != self._in_use or not self._is_placed:
            self._check_shard(client)
        assert isinstance(client, HttpClient)
        client.timeout = Timeout(connect=CONNECT_SECONDS, read=lane.seconds + _SLACK_SECONDS)
        if address != self._in_use and len(self._replicas) > 1:
            self._catch_up(client)
        self._clients[key] = client
        self._in_use = address
        return client

    def _catch_up(self, client: Client) -> None:
        for table in REPLICATED:
            named = f"`{self._location.database}`.{table}"
            try:
                client.command(cluster.catch_up(named), use_database=False, settings=CATCH_UP_SETTINGS)
            except DriverError as error:
                # Before the first migration there is nothing to catch up with.
                if error.code not in NOT_THERE:
                    raise

    def _check_shard(self, client: Client) -> None:
        """Raise EngineUnavailable where the database is another shard than it is taken for.

        It says which it is from its first sink on. Before that each question finds out anew, where there are several shards.
        """
        found = _which_shard(client)
        problem = misplaced(self._location.shard, found)
        if problem is not None:
            raise EngineUnavailable(problem, needs_operator=True)
        self._is_placed = self._is_placed or bool(found)

    def _leave(self, address: ServerAddress) -> None:
        """Have the next replica take over from one that does not serve, unless somebody is looking for one already."""
        if self._lock.acquire(blocking=False):
            if self._replicas[self._next] == address:
                self._next = (self._next + 1) % len(self._replicas)
            self._lock.release()

    def _connect(self, address: ServerAddress, database: str, lane: Lane) -> Client:
        client = clickhouse_connect.get_client(**_client_arguments(address, self._location, self._tls, lane))
        # The database may not exist before the first migration, so the greeting goes without it.
        client.database = database
        return client

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def _which_shard(client: Client) -> list[Shard]:
    """Return what a database says which shard it is, nothing before its first sink. Raises DriverError."""
    try:
        try:
            rows = client.raw_query(WHICH_SHARD, fmt="JSONCompactEachRow")
        except DriverError as error:
            if error.code != UNKNOWN_IDENTIFIER:
                raise
            rows = client.raw_query(WHICH_SHARD_BEFORE, fmt="JSONCompactEachRow")
    except DriverError as error:
        if error.code in NOT_THERE:
            return []
        raise
    return [Shard(*row) for row in msgspec.json.Decoder(tuple[int, int]).decode_lines(rows)]


def _client_arguments(
    address: ServerAddress, at: ServerLocation, tls: TlsFiles, lane: Lane
) -> dict[str, Any]:
    """Return all that a client of a server is made with, by the driver's names. Raises TlsFilesError.

    With a certificate of ours and no password in the URL, the certificate says who we are; with both, it is shown beside the
    password.
    """
    arguments: dict[str, Any] = {
        "interface": "https" if at.secure else "http",
        "host": address.host,
        "port": address.port,
        "username": at.user,
        "password": at.password,
        "connect_timeout": CONNECT_SECONDS,
        # Others wait for the greeting, so a lane's own limit comes into force after it.
        "send_receive_timeout": GREETING_SECONDS,
        "query_retries": 0,
        "autogenerate_session_id": False,
    }
    if not at.secure:
        return {**arguments, "pool_mgr": get_pool_manager(maxsize=lane.connections)}
    if tls.cert_file is not None:
        arguments |= {"client_cert": tls.cert_file, "tls_mode": "strict" if at.password else "mutual"}
    return {
        **arguments,
        "pool_mgr": get_pool_manager(maxsize=lane.connections, ssl_context=tls.context()),
    }
