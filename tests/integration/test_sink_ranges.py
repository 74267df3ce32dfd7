"""A sink's ranges on a real broker and engine: finished by the next owner, and never sent again by a stale one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from pipeline import topics
from pipeline.clickhouse.client import Engine
from pipeline.journal import LEDGER, REQUESTS, JournalRecord, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.local.broker import Broker
from pipeline.settings import Settings
from pipeline.sink import ranges
from pipeline.sink.partition import SinkPartition
from tests.journal_rows import ledger_row, payload, random_requests

REQUEST_ROWS = 3


@pytest_asyncio.fixture
async def servers(fresh_broker: Broker) -> AsyncIterator[str]:
    """A broker whose journal holds requests and a ledger row, at positions 1 to 4."""
    servers = fresh_broker.servers
    await ensure_topics(servers, Settings(kafka_url=f"kafka://{servers}", partitions=1))
    writer = FencedLog(servers, "metering-0", role="worker")
    await writer.start()
    outputs = [Output(None, record.value, record.headers()) for record in _records()]
    await writer.commit({TopicPartition(topics.JOURNAL, 0): outputs})
    await writer.close()
    yield servers


def _records() -> list[JournalRecord]:
    requests = random_requests(7, REQUEST_ROWS + 1, orgs=("org_a",))[1:]
    [ledger] = encode_rows(LEDGER, [ledger_row(public_id(0, REQUEST_ROWS + 1), "org_a", 5, 5)])
    return [JournalRecord(REQUESTS, 1, REQUEST_ROWS, payload(requests)), ledger]


def _range(age_ms: int) -> tuple[ranges.Intent, list[tuple[int, JournalRecord]]]:
    records = list(enumerate(_records()))
    return ranges.cut(records, int(time.time() * 1000) - age_ms), records


def _stored(engine: Engine) -> list[int]:
    return [
        row[0]
        for table in ("events", "ledger")
        for row in engine.query(f"SELECT count() FROM {table}", row=tuple[int])
    ]


async def _sink(servers: str, engine: Engine) -> SinkPartition:
    sink = SinkPartition(servers, "metering", 0, 1, engine)
    await sink._log.start()
    return sink


@pytest.mark.parametrize("age_ms", [0, 30 * 86_400_000])
@pytest.mark.parametrize("done", [(), (REQUESTS,), (REQUESTS, LEDGER)])
async def test_the_next_owner_writes_what_is_missing_of_a_range(
    servers: str, engine: Engine, age_ms: int, done: tuple[str, ...]
) -> None:
    intent, records = _range(age_ms)
    first = await _sink(servers, engine)
    await first._record(intent)
    for part in intent.parts:
        if part.kind in done:
            await first._send(part, records)
    await first.close()
    second = SinkPartition(servers, "metering", 0, 1, engine)
    assert await second.open() == intent.next_offset
    assert _stored(engine) == [REQUEST_ROWS, 1]
    await second.close()


async def test_an_owner_stopped_for_long_sends_nothing_that_is_there(servers: str, engine: Engine) -> None:
    """By then its tokens are forgotten, so the engine would take the rows again."""
    intent, records = _range(30 * 86_400_000)
    stale = await _sink(servers, engine)
    await stale._record(intent)
    owner = SinkPartition(servers, "metering", 0, 1, engine)
    await owner.open()
    for table in ("events", "usage_day", "model_day", "ledger"):
        engine.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 0")
    await stale._insert(intent, records)
    assert _stored(engine) == [REQUEST_ROWS, 1]
    await owner.close()
    await stale.close()


async def test_an_owner_stopped_for_long_is_fenced_where_nothing_is_there(
    servers: str, engine: Engine
) -> None:
    intent, records = _range(30 * 86_400_000)
    stale = await _sink(servers, engine)
    owner = await _sink(servers, engine)
    with pytest.raises(ProducerFenced):
        await stale._insert(intent, records)
    assert _stored(engine) == [0, 0]
    await owner.close()
    await stale.close()


@pytest.mark.parametrize("lost", ["events", "usage_day", "model_day", "ledger", "all"])
async def test_what_a_killed_engine_has_lost_of_a_range_it_knows_is_put_back(
    servers: str, engine: Engine, lost: str
) -> None:
    """Killed between a block's token and the block, an engine drops the block for ever after."""
    intent, records = _range(age_ms=3_600_000)
    first = await _sink(servers, engine)
    await first._record(intent)
    for part in intent.parts:
        await first._send(part, records)
    await first.close()
    before = _contents(engine)
    for table in ("events", "usage_day", "model_day", "ledger") if lost == "all" else (lost,):
        engine.command(f"ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert _contents(engine) != before
    second = SinkPartition(servers, "metering", 0, 1, engine)
    assert await second.open() == intent.next_offset
    assert _contents(engine) == before
    assert engine.query("SELECT name FROM system.tables WHERE name LIKE 'again%'", row=tuple[str]) == []
    await second.close()


def _contents(engine: Engine) -> list[list[tuple[object, ...]]]:
    """Return all rows, and all that the roll-ups come to."""
    return [
        engine.query(sql, row=tuple[object, ...])
        for sql in (
            "SELECT * FROM events ORDER BY id",
            "SELECT * FROM ledger ORDER BY id",
            "SELECT * FROM usage_day FINAL ORDER BY ALL",
            "SELECT * FROM model_day FINAL ORDER BY ALL",
        )
    ]
