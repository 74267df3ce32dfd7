"""A sink of several shards: each has turns of its own, and so many that all partitions can share them."""

from __future__ import annotations

from typing import cast

from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.shards import Database, open_database
from pipeline.settings import SinkSettings
from pipeline.sink.pace import INSERTS_A_SECOND
from pipeline.sink.partition import SinkPartition
from pipeline.sink.sink import Sink

PARTITIONS = 12


def _turns_in_the_burst(sink: Sink, engine: Engine) -> int:
    """Return how many turns a shard has at once before one has to wait."""
    turns = 0
    while sink._turn_s(engine) <= 0:
        turns += 1
    return turns


def _sink(database: Database) -> Sink:
    """Return a sink that owns every partition, as far as its turns go."""
    sink = Sink(SinkSettings(kafka_url="kafka://127.0.0.1:1"), database)
    sink._count = PARTITIONS
    sink._opening = dict.fromkeys(range(PARTITIONS), cast("SinkPartition", None))
    return sink


def test_each_shard_has_turns_of_its_own() -> None:
    for url, shards in (("http://a/db", 1), ("http://a;b;c/db", 3)):
        database = open_database(url)
        sink = _sink(database)
        turns = [_turns_in_the_burst(sink, engine) for engine in database.shards]
        assert len(turns) == shards
        # As many as one shard alone has in a second, or more where they come due while they are taken.
        assert min(turns) >= INSERTS_A_SECOND
        database.close()
