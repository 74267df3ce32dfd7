"""A worker's reader on a real broker, with producers as they may be: transactions, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline import ist, topics
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.clients import started_admin
from pipeline.local.broker import Broker
from pipeline.posting.unit import FutureStampError
from pipeline.settings import Settings
from pipeline.worker import service
from pipeline.worker.service import PartitionReader, PendingUnit
from tests.support import parts
from tests.support.builders import event, packed

LIMIT_S = 60.0


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker whose topics nobody else reads."""
    with parts.own_broker() as started:
        yield started


class AtOnce:
    """An agent's channel whose units are worked on as soon as they are in it."""

    async def put(self, unit: PendingUnit, /) -> None:
        await unit.partition.work(unit.topic, unit.records)
        unit.committed.set_result(None)


@asynccontextmanager
async def _working(settings: Settings) -> AsyncIterator[PartitionReader]:
    reader = PartitionReader(settings, dict.fromkeys(topics.INPUTS, AtOnce()))
    running = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            yield reader
            assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def _free(number: int) -> bytes:
    """Return an event that needs no rate, as the org brought its own key."""
    return packed(event(f"e{number}", data__byok=True))


async def _transaction(producer: AIOKafkaProducer, *values: bytes, commits: bool) -> None:
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(topics.REQUESTS, value, partition=0)
    await (producer.commit_transaction() if commits else producer.abort_transaction())


async def test_a_producer_may_use_transactions(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed events are charged, aborted ones are not, and no marker looks like loss or like work to be done."""
    monkeypatch.setattr(service, "STANDSTILL_LIMIT_S", 0.3)
    monkeypatch.setattr(service, "WATCH_EVERY_S", 0.1)
    settings = Settings(kafka_url=broker.url, partitions=1)
    await ensure_topics(broker.connection, settings)
    async with (
        AIOKafkaProducer(bootstrap_servers=broker.servers, transactional_id="gateway-1") as gateway,
        AIOKafkaProducer(bootstrap_servers=broker.servers, transactional_id="gateway-2") as slow,
    ):
        async with _working(settings) as reader:
            await _until(lambda: 0 in reader._owned and reader._owned[0].is_open)
            partition = reader._owned[0]
            await _transaction(gateway, _free(0), _free(1), commits=True)
            await _transaction(gateway, _free(2), commits=False)
            await _transaction(gateway, _free(3), commits=True)
            await _until(lambda: partition._state.meta.position == 4)
            # The log ends with what was aborted and markers, and then with a transaction that nobody ends.
            await _transaction(gateway, _free(4), commits=False)
            await slow.begin_transaction()
            await slow.send_and_wait(topics.REQUESTS, _free(5), partition=0)
            looks_s: set[float] = set()
            while len(looks_s) < 10:
                looks_s.add(partition.activity._caught_up_at_s.get(topics.REQUESTS, 0.0))
                await asyncio.sleep(0.02)
            await slow.commit_transaction()
            await _until(lambda: partition._state.meta.position == 5)
        # Whoever owns the partition next goes on from there.
        async with _working(settings) as reader:
            await _transaction(gateway, _free(6), commits=True)
            await _until(lambda: 0 in reader._owned and reader._owned[0]._state.meta.position == 6)


async def test_a_time_stamp_from_the_future_stops_the_worker_before_anything_is_committed(
    broker: Broker,
) -> None:
    """Charged by it, the org's month would be over, and the memory of duplicates empty."""
    settings = Settings(kafka_url=broker.url, partitions=1)
    await ensure_topics(broker.connection, settings)
    # A broker's clock cannot be set here: with the producer's time stamps the topic looks the same.
    config = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    given = ConfigResource(ConfigResourceType.TOPIC, topics.REQUESTS, config)
    async with started_admin(broker.connection) as admin:
        await admin.alter_configs([given])
    stamp = time.time_ns() // 1_000_000 + 40 * ist.DAY_MS
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as gateway:
        await gateway.send_and_wait(topics.REQUESTS, _free(0), partition=0)
        await gateway.send_and_wait(topics.REQUESTS, _free(1), partition=0, timestamp_ms=stamp)
    reader = PartitionReader(settings, dict.fromkeys(topics.INPUTS, AtOnce()))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(FutureStampError, match=rf"metering.requests/0, offset 1: .* {stamp} ms"):
            await reader.run()
    places = [TopicPartition(topic, 0) for topic in (topics.JOURNAL, topics.STATE, topics.VERDICTS)]
    assert set((await ends_of(broker.connection, places)).values()) == {0}
