"""A whole worker on a real broker, with producers as they may be: transactions, wrong clocks, bombs.

Each test has a partition of its own; all of them are one worker's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.util import calc_crc32c
from pydantic import SecretStr

from pipeline import ist, topics
from pipeline.kafka import group_watch
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.bounded import ends_of, read_to_end
from pipeline.kafka.clients import started_admin
from pipeline.kafka.decompression import BATCH_BYTES_MAX
from pipeline.kafka.topic_ids import topic_ids
from pipeline.local.broker import Broker
from pipeline.operations.quarantine import NotSetAsideError, quarantine
from pipeline.partitioning import partition_of
from pipeline.posting.state import PartitionState
from pipeline.posting.unit import FutureStampError
from pipeline.settings import Settings
from pipeline.steps import AnotherTopicError
from pipeline.telemetry import READING
from pipeline.worker import standstill
from pipeline.worker.partition import Partition
from pipeline.worker.service import PartitionReader, PendingUnit
from tests.support import parts
from tests.support.builders import COMMAND_KEY, event, packed, time_text

LIMIT_S = 120.0
STANDSTILL_S = 0.5
"""So long a worker may stand still here before it ends itself."""
CREATE_TIME = 0
"""What a broker says of a time stamp that is the producer's."""
PARTITIONS = 3
ORGS = {partition_of(org, PARTITIONS): org for org in (f"org_{n}" for n in range(50))}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker whose topics nobody else reads."""
    with parts.own_broker() as started:
        asyncio.run(ensure_topics(started.connection, _settings(started)))
        yield started


def _settings(broker: Broker, **more: Any) -> Settings:
    return Settings(kafka_url=broker.url, partitions=PARTITIONS, command_key=SecretStr(COMMAND_KEY), **more)


class AtOnce:
    """An agent's channel whose units are worked on as soon as they are in it."""

    async def put(self, unit: PendingUnit, /) -> None:
        await unit.partition.work(unit.topic, unit.records)
        unit.committed.set_result(None)


class Running:
    """A worker that runs, until a condition holds or the worker ends."""

    def __init__(self, settings: Settings) -> None:
        self.reader = PartitionReader(settings, dict.fromkeys(topics.INPUTS, AtOnce()))
        self.task = asyncio.create_task(self.reader.run())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; raise what the worker ended with, where it did."""
        while not condition():
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.02)

    async def owned(self, number: int) -> Partition:
        """Return a partition once it is ours and open."""
        await self.until(lambda: number in self.reader._owned and self.reader._owned[number].is_open)
        return self.reader._owned[number]


@asynccontextmanager
async def _working(broker: Broker, **settings: Any) -> AsyncIterator[Running]:
    worker = Running(_settings(broker, **settings))
    try:
        async with asyncio.timeout(LIMIT_S):
            yield worker
    finally:
        worker.task.cancel()
        await asyncio.wait([worker.task])


def _free(partition: int, number: int) -> bytes:
    """Return an event that needs no rate, as the org brought its own key."""
    now = time_text(time.time_ns() // 1_000_000)
    return packed(event(f"e{number}", subject=ORGS[partition], time=now, data__byok=True))


def _standing_s(partition: int) -> float:
    labels = {"part": "worker", "partition": str(partition)}
    return READING.registry.get_sample_value("metering_standing_seconds", labels) or 0.0


def _is_at(state: PartitionState, position: int) -> bool:
    return state.meta.position == position


async def _transaction(producer: AIOKafkaProducer, *values: bytes, commits: bool) -> None:
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(topics.REQUESTS, value, partition=0)
    await (producer.commit_transaction() if commits else producer.abort_transaction())


async def _letters(broker: Broker, partition: int) -> list[ConsumerRecord]:
    where = TopicPartition(topics.DEAD_LETTERS, partition)
    return [record async for records in read_to_end(broker.connection, where) for record in records]


async def test_a_producer_may_use_transactions(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed events are charged, aborted ones are not, and no marker looks like loss or like work to be done."""
    monkeypatch.setattr(group_watch, "WATCH_EVERY_S", 0.1)
    async with (
        AIOKafkaProducer(bootstrap_servers=broker.servers, transactional_id="gateway-1") as gateway,
        AIOKafkaProducer(bootstrap_servers=broker.servers, transactional_id="gateway-2") as slow,
    ):
        async with _working(broker) as worker:
            partition = await worker.owned(0)
            await _transaction(gateway, _free(0, 0), _free(0, 1), commits=True)
            await _transaction(gateway, _free(0, 2), commits=False)
            await _transaction(gateway, _free(0, 3), commits=True)
            await worker.until(lambda: partition._state.meta.position == 4)
            # The log ends with what was aborted and markers, and then with a transaction that nobody ends.
            await _transaction(gateway, _free(0, 4), commits=False)
            await slow.begin_transaction()
            await slow.send_and_wait(topics.REQUESTS, _free(0, 5), partition=0)
            since_s = time.monotonic()
            seen: set[float] = set()

            def looked_again() -> bool:
                seen.add(partition.activity._caught_up_at_s.get(topics.REQUESTS, 0.0))
                return len([at_s for at_s in seen if at_s > since_s]) >= 3

            # People are told that the partition stands. Its worker has nothing to do that could end that, and stays.
            with monkeypatch.context() as impatient:
                impatient.setattr(standstill, "STANDSTILL_LIMIT_S", STANDSTILL_S)
                await worker.until(lambda: _standing_s(0) > STANDSTILL_S)
                await worker.until(looked_again)
            assert worker.reader.problem is None
            await slow.commit_transaction()
            await worker.until(lambda: partition._state.meta.position == 5 and _standing_s(0) == 0)
        # Whoever owns the partition next goes on from there.
        async with _working(broker) as worker:
            await _transaction(gateway, _free(0, 6), commits=True)
            partition = await worker.owned(0)
            await worker.until(lambda: partition._state.meta.position == 6)


async def test_a_record_that_ends_its_worker_is_set_aside_while_no_worker_lives(broker: Broker) -> None:
    """Its time stamp is from the future: charged by it, the org's month would be over."""
    # A broker's clock cannot be set here: with the producer's time stamps the topic looks the same.
    config = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    async with started_admin(broker.connection) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.REQUESTS, config)])
    stamp = time.time_ns() // 1_000_000 + 40 * ist.DAY_MS
    values = [_free(1, n) for n in range(3)]
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as gateway:
        # The broker takes the setting over a moment after it has acknowledged it.
        while (
            await gateway.send_and_wait(topics.REQUESTS, _free(0, 1_000), partition=0)
        ).timestamp_type != CREATE_TIME:
            await asyncio.sleep(0.05)
        for value, at_ms in zip(values, (None, stamp, None), strict=True):
            sent = await gateway.send_and_wait(topics.REQUESTS, value, partition=1, timestamp_ms=at_ms)
            assert sent.timestamp_type == CREATE_TIME
    place = TopicPartition(topics.REQUESTS, 1)
    kafka = broker.connection
    async with _working(broker) as worker:
        with pytest.raises(FutureStampError, match=rf"metering.requests/1, offset 1: .* {stamp} ms"):
            await worker.until(lambda: False)
    assert await _letters(broker, 1) == []

    for wrong, offset, why in (
        (TopicPartition(topics.JOURNAL, 1), 0, "no topic that workers read"),
        (TopicPartition(topics.REQUESTS, PARTITIONS), 0, "partitions 0 to 2"),
        (place, 3, "has the offsets 0 to 2"),
        (place, -1, "has the offsets 0 to 2"),
    ):
        with pytest.raises(NotSetAsideError, match=why):
            await quarantine(kafka, wrong, offset, "from the future")
    for _ in range(2):
        assert (await quarantine(kafka, place, 1, "from the future")).bytes == len(values[1])
    async with _working(broker) as worker:
        partition = await worker.owned(1)
        await worker.until(lambda: partition._state.meta.offsets == {topics.REQUESTS: 3})
        assert (partition._state.meta.position, partition._state.set_aside) == (3, {})
    for _ in range(2):
        [letter] = await _letters(broker, 1)
        assert letter.value == values[1]
        assert dict(letter.headers)["reason"] == b"quarantined"
        assert dict(letter.headers)["detail"] == b"from the future"
        with pytest.raises(NotSetAsideError, match="posted up to 2"):
            await quarantine(kafka, place, 1, "again")
        # Another owner makes no second letter of it.
        async with _working(broker) as worker:
            await worker.owned(1)


async def _send_with_a_header(servers: str, value: bytes, name: bytes) -> None:
    """Send a record with a header whose name is any bytes at all, which no client lets through but brokers take."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=value, headers=[("n" * len(name), b"")])
        batch.close()
        spoilt = bytearray(batch._build().replace(b"n" * len(name), name))
        spoilt[17:21] = calc_crc32c(bytes(spoilt[21:])).to_bytes(4)
        batch._buffer = bytes(spoilt)
        await (await producer.send_batch(batch, topics.REQUESTS, partition=2))


async def test_a_batch_that_cannot_be_read_ends_nobody(broker: Broker) -> None:
    """One that is gigabytes when decompressed, and one with a header whose name is no text, are dead letters with the bytes
    that came; so is a record whose dead letter would not fit out.
    """
    zeros, large = b"0" * (BATCH_BYTES_MAX + 1), b"x" * 20_000_000
    async with AIOKafkaProducer(
        bootstrap_servers=broker.servers, compression_type="zstd", max_request_size=2**30
    ) as gateway:
        for value in (_free(2, 0), zeros, large):
            await gateway.send_and_wait(topics.REQUESTS, value, partition=2)
        await _send_with_a_header(broker.servers, _free(2, 2), b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8")
        await gateway.send_and_wait(topics.REQUESTS, _free(2, 1), partition=2)
    async with _working(broker) as worker:
        partition = await worker.owned(2)
        await worker.until(lambda: partition._state.meta.offsets == {topics.REQUESTS: 5})
        assert partition._state.meta.position == 3
    bomb, cut, unread = await _letters(broker, 2)
    assert b"a header whose name is not UTF-8" in dict(unread.headers)["detail"]
    assert _free(2, 2)[:50] in unread.value
    assert len(bomb.value) < 20_000
    assert b"is more than 67108864 bytes when decompressed" in dict(bomb.headers)["detail"]
    assert (dict(bomb.headers)["offset"], dict(cut.headers)["offset"]) == (b"1", b"2")
    assert (len(cut.value), dict(cut.headers)["cut_from_bytes"]) == (65_536, b"20000000")


async def test_a_topic_that_was_made_anew_stops_the_worker_until_it_is_accepted(broker: Broker) -> None:
    """The last test here: after it the topic is another one. By its length alone nothing would show."""
    place, kafka = TopicPartition(topics.REQUESTS, 0), broker.connection
    async with _working(broker) as worker:
        partition = await worker.owned(0)
        posted = partition._state.meta.position
        async with AIOKafkaProducer(bootstrap_servers=broker.servers) as gateway:
            await gateway.send_and_wait(topics.REQUESTS, _free(0, 100), partition=0)
        await worker.until(lambda: partition._state.meta.position == posted + 1)
    end, before = (await ends_of(kafka, [place]))[place], await topic_ids(kafka, [topics.REQUESTS])
    async with started_admin(kafka) as admin:
        await admin.delete_topics([topics.REQUESTS])
        while topics.REQUESTS in await admin.list_topics():
            await asyncio.sleep(0.02)
    await ensure_topics(kafka, _settings(broker))
    count = end + 3
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as gateway:
        for n in range(count):
            await gateway.send_and_wait(topics.REQUESTS, _free(0, 200 + n), partition=0)
    anew = await topic_ids(kafka, [topics.REQUESTS])
    assert anew.keys() == before.keys() == {topics.REQUESTS}

    async with _working(broker) as worker:
        with pytest.raises(
            AnotherTopicError,
            match=f"requests has the id {anew[topics.REQUESTS]}, .* had the id {before[topics.REQUESTS]}",
        ):
            await worker.until(lambda: False)
    # The setting may stay: the second owner finds the topic that it knows.
    for accepted in (anew, anew, {}):
        async with _working(broker, accepted_topics=accepted) as worker:
            # Each partition keeps the ids for itself, and has the new one only once it is open.
            state, *_ = [(await worker.owned(number))._state for number in range(PARTITIONS)]
            await worker.until(partial(_is_at, state, posted + 1 + count))
