"""Replicas, as far as a client can tell: who is asked, and who has to catch up first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.cluster import REPLICATED, catch_up
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.migrate import load, migrate
from pipeline.clickhouse.sql_files import sql_files
from pipeline.clickhouse.staging import alone, make_like
from pipeline.connection import KafkaConnection
from pipeline.inserts import DatabasePlace
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.steps import LookAtDatabase, NotConfirmedError
from tests.support.clickhouse.front import serving
from tests.support.clickhouse.replica import Replica
from tests.support.journal_rows import payload, random_requests

ALL = [f"`metering`.{table}" for table in REPLICATED]


@contextmanager
def _replicas(engine_home: str, *databases: str) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Replica(engine_home, name))) for name in databases]


@contextmanager
def _opened(hosts: str) -> Iterator[Engine]:
    engine = open_engine(f"http://{hosts}/metering?cluster=main")
    try:
        yield engine
    finally:
        engine.close()


def _at(*replicas: Replica) -> str:
    return ",".join(f"127.0.0.1:{replica.server_port}" for replica in replicas)


def _count(engine: Engine) -> int:
    return engine.query("SELECT count() FROM events", row=tuple[int])[0][0]


def test_another_replica_is_asked_once_it_has_caught_up(engine_home: str, engine: Engine) -> None:
    behind = engine.for_database(f"{engine.database}_behind")
    migrate(behind)
    rows = random_requests(seed=3, count=50)
    engine.insert_blocks("events", payload(rows), len(rows), "t")
    try:
        with _replicas(engine_home, engine.database, behind.database) as (first, second):
            second.catches_up = lambda: False
            with _opened(_at(first, second)) as cluster:
                assert _count(cluster) == 50
                # The one in use caught up before it was asked for the first time; nobody was asked of the other.
                assert (first.synced, second.synced) == (ALL, [])
                first.is_away = True
                with pytest.raises(EngineUnavailable):
                    _count(cluster)
                # It cannot catch up, so it is not asked for rows that the first one has shown.
                with pytest.raises(EngineUnavailable):
                    _count(cluster)
                assert second.synced

                def catches_up() -> bool:
                    if not behind.query("SELECT count() FROM events", row=tuple[int])[0][0]:
                        behind.insert_blocks("events", payload(rows), len(rows), "t")
                    return True

                second.catches_up = catches_up
                answers = [_tried(cluster) for _ in range(2)]
                assert answers[-1] == 50
                second.synced.clear()
                assert _count(cluster) == 50
                assert second.synced == []
    finally:
        engine.command(f"DROP DATABASE {behind.database} SYNC", in_database=False)


def _tried(engine: Engine) -> int | None:
    try:
        return _count(engine)
    except EngineUnavailable:
        return None


def test_whoever_needs_all_rows_has_the_replica_catch_up_again(engine_home: str, engine: Engine) -> None:
    with _replicas(engine_home, engine.database) as (only,), _opened(_at(only)) as cluster:
        assert cluster.caught_up(_count) == 0
        assert only.synced == list(REPLICATED)
        only.catches_up = lambda: False
        with pytest.raises(EngineUnavailable):
            cluster.caught_up(_count)
    assert engine.caught_up(_count) == 0


def test_what_is_sent_to_a_cluster_is_sql_that_the_engine_knows(engine: Engine) -> None:
    """No cluster runs it here; the real engine's own parser reads it."""
    sent = [
        statement for migration in load(sql_files("migrations")) for statement in migration.statements("main")
    ]
    assert len(sent) > 10
    for statement in (*sent, *map(catch_up, REPLICATED)):
        [(read,)] = engine.query("SELECT formatQuery({text:String})", {"text": statement}, row=tuple[str])
        assert ("ON CLUSTER main" in read) == (statement in sent and not statement.startswith("INSERT"))


def test_a_staging_table_is_of_one_replica(engine_home: str, engine: Engine) -> None:
    assert alone("ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}') ORDER BY id") == (
        "MergeTree ORDER BY id"
    )
    assert alone("ReplicatedAggregatingMergeTree ORDER BY id") == "AggregatingMergeTree ORDER BY id"
    with _replicas(engine_home, engine.database) as (only,), _opened(_at(only)) as cluster:
        make_like(cluster, "beside", "usage_day")
        assert b"ON CLUSTER" not in only.seen[-1][1]
    rows = random_requests(seed=3, count=50)
    engine.insert_blocks("events", payload(rows), len(rows), "t")
    [(year,)] = engine.query("SELECT DISTINCT toYear(day) FROM usage_day", row=tuple[int])
    engine.command("INSERT INTO beside SELECT * FROM usage_day")
    engine.command(f"ALTER TABLE usage_day REPLACE PARTITION {year} FROM beside")
    assert engine.query("SELECT sum(requests) FROM usage_day", row=tuple[int]) == [(50,)]


async def test_a_sink_compares_the_journal_with_a_replica_that_has_caught_up(
    engine_home: str, engine: Engine
) -> None:
    with _replicas(engine_home, engine.database) as (only,), _opened(_at(only)) as cluster:
        sink = SinkPartition(KafkaConnection("k:1"), "metering", 0, cluster, ByteBudget(1), lambda: 0.0)
        found = await sink._take(LookAtDatabase(1, 0))
        assert isinstance(found, DatabasePlace)
        assert (found.highest, only.synced) == (0, list(REPLICATED))
        only.catches_up = lambda: False
        with pytest.raises(NotConfirmedError):
            await sink._take(LookAtDatabase(1, 0))
