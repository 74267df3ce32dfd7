"""The journal is written into shards, other shards than those there are refused, and one becomes two: real broker and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from msgspec import structs

from pipeline import topics
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.cluster import ShardsError
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.shards import Database
from pipeline.connection import KafkaConnection
from pipeline.identity import MixedHistoriesError
from pipeline.journal import REQUESTS, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.sink import rebuild
from pipeline.sink.budget import ByteBudget
from pipeline.sink.partition import SinkPartition
from pipeline.sink.protocol import HOLD_KEY
from pipeline.sink.rebuild import Rebuild
from pipeline.steps import Output, TopicPlace
from tests.support import parts
from tests.support.clickhouse.replica import Replica
from tests.support.clickhouse.shards import opened, servers_of, url_of
from tests.support.journal_rows import random_requests

ORGS = ("org_c", "org_a", "org_d", "org_b")
"""Their partitions are 0 to 3, so two are of each shard."""
PARTITIONS = len(ORGS)
ROWS = 30
"""Of each partition."""
LIMIT_S = 120


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with a journal of all partitions."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, _settings(broker)))
        asyncio.run(_journal(broker.connection))
        yield broker


def _settings(broker: Broker) -> Settings:
    return Settings(kafka_url=broker.url, partitions=PARTITIONS)


async def _journal(kafka: KafkaConnection) -> None:
    for partition, org in enumerate(ORGS):
        made = random_requests(partition, ROWS, orgs=(org,))
        rows = [structs.replace(row, id=public_id(partition, n)) for n, row in enumerate(made, start=1)]
        writer = FencedLog(kafka, f"metering-{partition}", role="worker")
        await writer.start()
        for start in range(0, ROWS, 10):
            for record in encode_rows(REQUESTS, rows[start : start + 10]):
                output = Output(None, record.value, record.headers())
                await writer.commit({TopicPlace(topics.JOURNAL, partition): [output]})
        await writer.close()


@pytest.fixture(autouse=True)
def _nobody_writes_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sink ran before, so nothing is on its way that would have to be waited for."""
    monkeypatch.setattr(rebuild, "SETTLE_S", 0.0)


@pytest.fixture
def servers(engine: Engine, engine_home: str) -> Iterator[list[Replica]]:
    """Servers of databases that do not exist yet, but for their names."""
    with servers_of(engine, engine_home, "one", "two", "three") as servers:
        yield servers


async def _made(broker: Broker, database: Database, work: str = rebuild.CLICKHOUSE) -> int:
    """Migrate and rebuild; how many rows were written."""
    await asyncio.to_thread(migrate, database)
    again = Rebuild(_settings(broker), database, work)
    async with asyncio.timeout(LIMIT_S):
        report = await (again.clickhouse() if work == rebuild.CLICKHOUSE else again.roll_ups(None, None))
    return report.rows


def _orgs(database: Database) -> list[dict[str, tuple[int, ...]]]:
    """Return of each shard the orgs with their rows, by distinct ids too, and what the roll-up has."""
    asked = (
        "SELECT org, count(), uniqExact(id), any(rolled) FROM events "
        "LEFT JOIN (SELECT org, sum(requests) AS rolled FROM usage_day GROUP BY org) AS sums USING (org) GROUP BY org"
    )
    found = [shard.query(asked, row=tuple[str, int, int, int]) for shard in database.shards]
    return [{org: tuple(counts) for org, *counts in rows} for rows in found]


def _whole(*orgs: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(orgs, (ROWS, ROWS, ROWS))


ON_TWO = [_whole("org_c", "org_d"), _whole("org_a", "org_b")]


async def _open(broker: Broker, database: Database, partition: int) -> int:
    """Take a partition over as a sink does."""
    budget = ByteBudget(1_000_000)
    budget.join(partition)
    engine = database.of_partition(partition)
    owner = SinkPartition(broker.connection, "metering", partition, engine, budget, lambda: 0.0)
    try:
        return await owner.open()
    finally:
        await owner.close()


async def test_two_shards_have_the_rows_of_their_own_orgs_once_and_give_them_back(
    broker: Broker, servers: list[Replica]
) -> None:
    with opened(url_of(*servers[:2])) as database:
        assert await _made(broker, database) == ROWS * PARTITIONS
        assert _orgs(database) == ON_TWO
        # A roll-up is lost on one, and doubled on the other.
        first, second = database.shards
        first.command("TRUNCATE TABLE usage_day")
        second.command("INSERT INTO usage_day SELECT * FROM usage_day")
        await _made(broker, database, rebuild.ROLL_UPS)
        assert _orgs(database) == ON_TWO
        # One is restored from a backup that lacks rows.
        second.command(f"ALTER TABLE events DELETE WHERE id > {public_id(0, 12)} SETTINGS mutations_sync = 2")
        async with asyncio.timeout(LIMIT_S):
            report = await Rebuild(_settings(broker), database, rebuild.CLICKHOUSE).from_backup()
        assert report.rows == 2 * 20
        assert _orgs(database) == ON_TWO


async def test_one_shard_becomes_two_and_who_still_has_the_former_one_writes_nothing(
    broker: Broker, servers: list[Replica]
) -> None:
    with opened(url_of(servers[2])) as alone, opened(url_of(*servers[:2])) as both:
        await _made(broker, alone)
        assert _orgs(alone) == [_whole(*ORGS)]
        await _made(broker, both)
        assert _orgs(both) == ON_TWO
        for partition in range(PARTITIONS):
            with pytest.raises(MixedHistoriesError, match="one of the two is older than the last rebuild"):
                await _open(broker, alone, partition)
            await _open(broker, both, partition)
        assert (_orgs(alone), _orgs(both)) == ([_whole(*ORGS)], ON_TWO)


async def test_wrong_shards_are_refused_before_anything_is_held(
    broker: Broker, servers: list[Replica]
) -> None:
    first, second, _ = servers
    with opened(url_of(first, second)) as both:
        await _made(broker, both)
    for wrong in (url_of(first), url_of(second, first)):
        with opened(wrong) as database:
            with pytest.raises(EngineUnavailable, match="METERING_CLICKHOUSE_URL has a database as shard"):
                await Rebuild(_settings(broker), database, rebuild.CLICKHOUSE).clickhouse()
            with pytest.raises(EngineUnavailable, match="METERING_CLICKHOUSE_URL has a database as shard"):
                await Rebuild(_settings(broker), database, rebuild.ROLL_UPS).roll_ups(None, None)
    with opened(url_of(*servers)) as three, pytest.raises(ShardsError, match="name 1, 2, 4 of them"):
        await Rebuild(_settings(broker), three, rebuild.CLICKHOUSE).clickhouse()
    for partition in range(PARTITIONS):
        assert HOLD_KEY not in await read_compacted(
            broker.connection, TopicPartition(topics.SINK_STATE, partition)
        )
    with opened(url_of(first, second)) as both:
        assert _orgs(both) == ON_TWO
