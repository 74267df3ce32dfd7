"""A member of a group: its name through restarts, what it fetches meanwhile, and what others see of its progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.connection import KafkaConnection
from pipeline.kafka.reader import SESSION_TIMEOUT_MS, GroupReader

PARTITIONS = 2


class Opened:
    """Notes what was opened."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()

    async def open(self, partition: int) -> Mapping[str, int]:
        self.partitions.add(partition)
        return {}

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        raise AssertionError(f"nothing was written: {topic}/{partition} has {len(records)} records")

    async def close(self, partition: int) -> None:
        self.partitions.discard(partition)


class Doing(Opened):
    """Waits in each batch until it is let go, and says up to which offset it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: asyncio.Queue[TopicPartition] = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.next: dict[int, dict[str, int]] = {0: {}, 1: {}}

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        await self.under_way.put(TopicPartition(topic, partition))
        await self.go_on.wait()
        self.next[partition][topic] = records[-1].offset + 1


async def _create(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()


@asynccontextmanager
async def _reading(servers: str, topic: str, doing: Doing) -> AsyncIterator[GroupReader]:
    done = doing.next.__getitem__
    reader = GroupReader(KafkaConnection(servers), topic, [topic], doing, fetch_bytes=1024, done=done)
    running = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(60):
            yield reader
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _committed(servers: str, group: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {place.partition: there.offset for place, there in found.items()}


async def _opened_after(servers: str, group: str, names: Sequence[str]) -> float:
    """Run a reader until it has opened every partition, then leave it as a crash does; the seconds it took."""
    opened = Opened()
    reader = GroupReader(KafkaConnection(servers), group, names, opened, fetch_bytes=1024, instance="one")
    began = time.monotonic()
    running = asyncio.create_task(reader.run())
    async with asyncio.timeout(60):
        while len(opened.partitions) < PARTITIONS and not running.done():
            await asyncio.sleep(0.01)
    took_s = time.monotonic() - began
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return took_s


async def test_a_name_is_known_through_restarts(kafka_servers: str) -> None:
    topic = f"named-{time.monotonic_ns()}"
    await _create(kafka_servers, topic)
    await _opened_after(kafka_servers, topic, [topic])
    assert await _opened_after(kafka_servers, topic, [topic]) < SESSION_TIMEOUT_MS / 1000 / 2


async def test_nothing_is_fetched_that_would_wait_and_hold_up_others(kafka_servers: str) -> None:
    """A consumer fetches nothing of a broker while anything from there waits to be taken."""
    topic, doing = f"waiting-{time.monotonic_ns()}", Doing()
    await _create(kafka_servers, topic)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
        _reading(kafka_servers, topic, doing) as reader,
    ):
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, b"1", partition=partition)
            assert await doing.under_way.get() == TopicPartition(topic, partition)
            assert reader._consumer is not None
            assert reader._consumer.paused() == {TopicPartition(topic, p) for p in range(partition + 1)}
        doing.go_on.set()
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, b"2", partition=partition)
            assert await doing.under_way.get() == TopicPartition(topic, partition)


async def test_the_groups_offsets_follow_what_is_done(kafka_servers: str) -> None:
    topic, doing = f"followed-{time.monotonic_ns()}", Doing()
    doing.next[1][topic] = 7  # known by the partition's owner when it is opened
    doing.go_on.set()
    await _create(kafka_servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        async with _reading(kafka_servers, topic, doing):
            await producer.send_and_wait(topic, b"1", partition=0)
            while await _committed(kafka_servers, topic) != {0: 1, 1: 7}:
                await asyncio.sleep(0.01)
            await producer.send_and_wait(topic, b"2", partition=0)
            while doing.next[0] != {topic: 2}:
                await asyncio.sleep(0.001)
        # Left in order, it says its last word before it goes.
        assert await _committed(kafka_servers, topic) == {0: 2, 1: 7}


def test_who_reads_other_topics_has_another_name() -> None:
    """It must not be given the partitions that were assigned to one with fewer topics."""

    def name(*topics: str) -> str | None:
        return GroupReader(
            KafkaConnection("k:1"), "g", topics, Opened(), fetch_bytes=1, instance="one"
        )._instance

    assert name("a", "b") == name("b", "a") != name("a")
    assert GroupReader(KafkaConnection("k:1"), "g", ["a"], Opened(), fetch_bytes=1)._instance is None
