"""The engine: ask it, insert into it, command it.

Owns: time limits, the settings of an insert, and which failures are certain.
Called by: the sink, the API, `clickhouse/migrate.py`, `operations/`. Next: `clickhouse/pool.py`.

One class serves the embedded engine, a server and a cluster: only the URL differs. Parameters are bound
by the engine (`{name:Type}` in the text), never put into the text. Every method raises EngineError for
a definite refusal and EngineUnavailable where nobody knows; nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from pipeline.clickhouse.cluster import (
    CATCH_UP_SECONDS,
    CATCH_UP_SETTINGS,
    ONLY_SHARD,
    REPLICATED,
    Shard,
    catch_up,
)
from pipeline.clickhouse.errors import EngineError, EngineUnavailable
from pipeline.clickhouse.location import EmbeddedLocation, Location, parse_location
from pipeline.clickhouse.pool import (
    READ_SECONDS,
    WRITE_SECONDS,
    EmbeddedPool,
    Lane,
    Pool,
    ServerPool,
)
from pipeline.clickhouse.refused import PREFIX
from pipeline.tls import TlsFiles

__all__ = ["Engine", "EngineError", "EngineUnavailable", "open_engine"]

T = TypeVar("T")
P = ParamSpec("P")
Parameters = Mapping[str, object]
Settings = Mapping[str, int | str]

NO_FILES = TlsFiles(PREFIX)
"""What a server is checked against where no setting says: the system's authorities."""

QUEUE_SECONDS = 2
"""How long an awaited call may take beyond its own limit, for the wait for a free thread."""

BLOCK_ROWS_MAX = 1_000_000
BLOCK_BYTES_MAX = 512 * 1024 * 1024

_READ_SETTINGS: Settings = {"max_execution_time": READ_SECONDS, "max_threads": 2}

_INSERT_SETTINGS: Settings = {
    "max_execution_time": WRITE_SECONDS,
    "async_insert": 0,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    # What a table has no column for is refused, never left out.
    "input_format_skip_unknown_fields": 0,
    # From here on: the payload is one block, so one part a month. The token is the identity of a block
    # and its number within the insert, so a payload that were cut anywhere could be inserted twice.
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": BLOCK_ROWS_MAX,
    "max_insert_block_size_bytes": 0,
    "input_format_max_block_size_bytes": 0,
    "min_insert_block_size_rows": BLOCK_ROWS_MAX,
    "min_insert_block_size_bytes": 0,
}

_QUORUM: Settings = {"insert_quorum": "auto", "insert_quorum_timeout": 30_000}
"""With a cluster an insert is confirmed once most replicas have it. Confirmed by one, it would be lost with that one's
disk, and the sink would not look back. Fewer replicas than that is no clear answer: the sink sends the same again."""

_SETTING_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class Engine:
    """A database of a ClickHouse engine: all of a deployment's rows, or those of one shard. Safe to use from any thread."""

    def __init__(
        self,
        pool: Pool,
        database: str,
        cluster: str | None = None,
        threads: ThreadPoolExecutor | None = None,
        writers: ThreadPoolExecutor | None = None,
        sent: set[tuple[str, int]] | None = None,
        shard: Shard = ONLY_SHARD,
    ) -> None:
        """Use a pool's clients on a database; `cluster` is what ON CLUSTER names, if anything."""
        self._pool = pool
        self.shard = shard
        self.database = database
        self.cluster = cluster
        self._threads = threads or ThreadPoolExecutor(pool.threads, thread_name_prefix="clickhouse")
        self._writing: set[Future[Any]] = set()
        self._sent = set[tuple[str, int]]() if sent is None else sent
        self._writers = writers or ThreadPoolExecutor(pool.writers, thread_name_prefix="clickhouse-writer")

    @property
    def is_embedded(self) -> bool:
        """Whether the engine is in this process, so that nobody else can write to it."""
        return isinstance(self._pool, EmbeddedPool)

    def for_database(self, database: str) -> Engine:
        """Return an engine on another database that shares all else with this one, so close only one."""
        return Engine(
            self._pool, database, self.cluster, self._threads, self._writers, self._sent, self.shard
        )

    @property
    def shards(self) -> tuple[Engine, ...]:
        """The engine itself, as the one shard that there is: see `clickhouse/shards.py`."""
        return (self,)

    def of_org(self, _org: str) -> Engine:
        """Return the engine itself: it has the rows of all orgs."""
        return self

    def of_partition(self, _partition: int) -> Engine:
        """Return the engine itself: it has the rows of all partitions."""
        return self

    def catch_up(self) -> None:
        """Return once what is asked next is answered with every row that was confirmed before, by whatever replica.

        Raises EngineUnavailable where the replica in use does not catch up in time.
        """
        if self.cluster is not None:
            for table in REPLICATED:
                self.command(catch_up(table), settings=CATCH_UP_SETTINGS)

    def caught_up(self, call: Callable[Concatenate[Engine, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a call finds of this engine after `catch_up`. Raises what both raise."""
        self.catch_up()
        return call(self, *args, **kwargs)

    async def async_catch_up(self) -> None:
        """Do `catch_up` in a thread."""
        await self._in_thread(len(REPLICATED) * CATCH_UP_SECONDS + QUEUE_SECONDS, self.catch_up)

    def note_sent(self, partition: int) -> None:
        """Note that rows of a partition of the journal are about to be sent."""
        self._sent.add((self.database, partition))

    def may_be_sent(self, partition: int) -> bool:
        """Whether an insert of a partition of the journal may be under way, or was since the engine was started.

        Nobody else writes to an embedded engine, so what was sent to it before ended with the process that had it.
        """
        return not self.is_embedded or (self.database, partition) in self._sent

    def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        row: type[T],
        settings: Settings | None = None,
    ) -> list[T]:
        """Return a SELECT's rows, each decoded as a `row`: a tuple type, or a msgspec array-like Struct.

        Dates come as text, numbers of any size as int. The text has no FORMAT and no SETTINGS.
        """
        lines = self.query_bytes(sql, parameters, output="JSONCompactEachRow", settings=settings)
        try:
            return msgspec.json.Decoder(row).decode_lines(lines)
        except msgspec.MsgspecError as error:
            raise EngineError(f"the engine answered rows of another shape: {error}") from error

    def query_bytes(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        output: str,
        settings: Settings | None = None,
    ) -> bytes:
        """Return a SELECT's answer as the engine encodes it in an output format, JSONEachRow for one.

        With a `max_execution_time` beyond READ_SECONDS it is a scan, and keeps out of the others' way.
        """
        text = f"{sql}\nSETTINGS {_clause({**_READ_SETTINGS, **(settings or {})})}"
        lane = Lane.READ if _seconds(settings) <= READ_SECONDS else Lane.SCAN
        with self._pool.lend(self.database, lane) as client:
            return client.raw_query(text, parameters=dict(parameters or {}), fmt=output)

    async def async_query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        row: type[T],
        settings: Settings | None = None,
    ) -> list[T]:
        """Do `query` in a thread. Raises EngineUnavailable QUEUE_SECONDS after its limit at the latest."""
        wait = _seconds(settings) + QUEUE_SECONDS
        return await self._in_thread(wait, self.query, sql, parameters, row=row, settings=settings)

    async def async_bytes(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        output: str,
        settings: Settings | None = None,
    ) -> bytes:
        """Do `query_bytes` in a thread, as `async_query` does."""
        wait = _seconds(settings) + QUEUE_SECONDS
        return await self._in_thread(
            wait, self.query_bytes, sql, parameters, output=output, settings=settings
        )

    def insert(self, table: str, columns: Sequence[str], payload: bytes, token: str) -> None:
        """Insert JSONCompactEachRow lines, one a row, in the order of `columns`, as one block.

        It returns when source table and roll-ups are on disk. The same payload with the same token has
        no second effect, so after EngineUnavailable it is sent again. Raises ValueError for a payload
        that holds no row or too many for one block.
        """
        self._insert(table, list(columns), "JSONCompactEachRow", payload, payload.count(b"\n"), token)

    def insert_blocks(self, table: str, payload: bytes, rows: int, token: str) -> None:
        """Insert blocks of the Native format, `rows` in all, as one block; otherwise as `insert`.

        A column that a block lacks takes the table's default; one that the table lacks is refused.
        """
        self._insert(table, None, "Native", payload, rows, token)

    def _insert(
        self, table: str, columns: list[str] | None, form: str, payload: bytes, rows: int, token: str
    ) -> None:
        if not 1 <= rows <= BLOCK_ROWS_MAX or len(payload) > BLOCK_BYTES_MAX:
            raise ValueError(f"{rows} rows in {len(payload)} bytes do not make one block")
        settings = {**_INSERT_SETTINGS, "insert_deduplication_token": token}
        if self.cluster is not None:
            settings |= _QUORUM
        with self._pool.lend(self.database, Lane.WRITE) as client:
            client.raw_insert(table, column_names=columns, insert_block=payload, fmt=form, settings=settings)

    async def writing(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a blocking call returns that writes here, from a thread that is for writing.

        So an engine that hangs takes no thread from anything else. Cancelled, the call may still be done.
        """
        try:
            future = self._writers.submit(call, *args, **kwargs)
        except RuntimeError:
            raise EngineUnavailable("the engine is closed") from None
        self._writing.add(future)
        future.add_done_callback(self._writing.discard)
        return await asyncio.wrap_future(future)

    async def written(self) -> None:
        """Return when all that was given to `writing` before is done, also of callers that were cancelled."""
        calls = [asyncio.wrap_future(future) for future in tuple(self._writing)]
        await asyncio.gather(*calls, return_exceptions=True)

    def command(self, sql: str, *, in_database: bool = True, settings: Settings | None = None) -> None:
        """Carry out a statement that returns nothing, outside any database where `in_database` is off."""
        with self._pool.lend(self.database, Lane.WRITE) as client:
            client.command(sql, use_database=in_database, settings=dict(settings or {}))

    def ping(self) -> None:
        """Make sure that the engine answers, has the schema, and lets this user read."""
        self.query("SELECT max(version) FROM schema_versions", row=tuple[int])

    async def async_ping(self) -> None:
        """Do `ping` in a thread."""
        await self._in_thread(READ_SECONDS + QUEUE_SECONDS, self.ping)

    def close(self) -> None:
        """Close everything. Calls under way are waited for."""
        for threads in (self._threads, self._writers):
            threads.shutdown(wait=True, cancel_futures=True)
        self._pool.close()

    async def _in_thread(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            future = self._threads.submit(call, *args, **kwargs)
        except RuntimeError:
            raise EngineUnavailable("the engine is closed") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), wait)
        except TimeoutError:
            raise EngineUnavailable(f"no answer within {wait} s") from None


def open_engine(url: str, tls: TlsFiles = NO_FILES) -> Engine:
    """Return the engine a URL points to (`clickhouse/location.py` has the grammar); `tls` is for one that begins with https.

    An embedded engine is opened at once, a server with the first call. Raises LocationError for a bad
    URL and EngineError where the embedded engine's directory cannot be used.
    """
    return engine_at(parse_location(url), tls)


def engine_at(location: Location, tls: TlsFiles) -> Engine:
    """Return the engine at a location, as `open_engine` does. Raises EngineError."""
    pool: Pool = (
        EmbeddedPool(location) if isinstance(location, EmbeddedLocation) else ServerPool(location, tls)
    )
    return Engine(pool, location.database, location.cluster, shard=location.shard)


def _seconds(settings: Settings | None) -> int:
    return int((settings or {}).get("max_execution_time", READ_SECONDS))


def _clause(settings: Settings) -> str:
    """Return settings as SQL. They are ours, never a caller's from outside, and checked all the same."""
    for name, value in settings.items():
        if not _SETTING_NAME.match(name) or (isinstance(value, str) and not value.isalnum()):
            raise ValueError(f"not a setting: {name}")
    return ", ".join(f"{name} = {value!r}" for name, value in settings.items())
