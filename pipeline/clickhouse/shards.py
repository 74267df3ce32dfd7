"""The shards of a deployment's database: which of them has an org's rows, and what is asked of all of them.

Owns: where rows belong, and what `open_database` returns: an engine where there is one shard, and `Shards` where there are more.
Called by: sink, API and `operations/`. Next: `clickhouse/client.py`; `clickhouse/adding.py` puts the answers of shards together.

An org's rows are all of one partition of the journal, and a partition's rows are all of one shard: the partition's number
modulo the number of shards. That number divides the number of partitions, so an org's shard follows from its id alone, and
all shards have as many partitions. Nothing is asked of another shard than the one it is about, so one that is away takes
away the answers about its own orgs, and those about all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.clickhouse.adding import put_together
from pipeline.clickhouse.client import NO_FILES, Engine, engine_at
from pipeline.clickhouse.cluster import ShardsError
from pipeline.clickhouse.location import parse_shards
from pipeline.clickhouse.queries import query
from pipeline.partitioning import partition_of
from pipeline.tls import TlsFiles


class Database(Protocol):
    """A deployment's rows: one engine that has all of them, or several that have a shard each."""

    @property
    def shards(self) -> Sequence[Engine]:
        """Every shard, in order."""

    def of_org(self, org: str, /) -> Engine:
        """Return the shard that has an org's rows."""

    def of_partition(self, partition: int, /) -> Engine:
        """Return the shard that has the rows of a partition of the journal."""

    def close(self) -> None:
        """Close everything. Calls under way are waited for."""


class Shards:
    """Several engines, a shard each."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Take engines that know which shard they are, in their order."""
        self.shards = tuple(engines)

    def of_org(self, org: str) -> Engine:
        """Return the shard that has an org's rows."""
        # The number of shards divides that of partitions, so this is the shard of the org's partition.
        return self.shards[partition_of(org, len(self.shards))]

    def of_partition(self, partition: int) -> Engine:
        """Return the shard that has the rows of a partition of the journal."""
        return self.shards[partition % len(self.shards)]

    def close(self) -> None:
        """Close every shard. Calls under way are waited for."""
        for engine in self.shards:
            engine.close()


def open_database(url: str, tls: TlsFiles = NO_FILES) -> Database:
    """Return the database a URL points to (`clickhouse/location.py` has the grammar).

    Raises as `open_engine` does: LocationError for a bad URL, EngineError for an embedded engine that cannot be used.
    """
    engines = [engine_at(location, tls) for location in parse_shards(url)]
    return engines[0] if len(engines) == 1 else Shards(engines)


def asked_of(database: Database, values: Mapping[str, object]) -> Sequence[Engine]:
    """Return the shards that a query about the whole platform is for: one, where its values name a partition."""
    partition = values.get("partition")
    return database.shards if not isinstance(partition, int) else (database.of_partition(partition),)


async def ask_all(database: Database, name: str, values: Mapping[str, object]) -> bytes:
    """Return what a query about the whole platform comes to, a JSON array a line.

    Raises what the engines raise: without one of the shards there is no such answer.
    """
    bound = query(name).of_platform(**values)
    asked = (
        each.async_bytes(bound.sql, bound.parameters, output="JSONCompactEachRow") for each in database.shards
    )
    return put_together(name, await asyncio.gather(*asked))


def check_partitions(database: Database, partitions: int) -> None:
    """Raise ShardsError unless every shard gets as many of the partitions as every other."""
    count = len(database.shards)
    if partitions % count:
        fitting = ", ".join(str(each) for each in range(1, partitions + 1) if partitions % each == 0)
        raise ShardsError(
            f"METERING_CLICKHOUSE_URL has {count} shards, which {partitions} partitions cannot be shared out to: name "
            f"{fitting} of them"
        )
