"""A member that is started again under its name has its partitions at once, not when its session times out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

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


async def _opened_after(servers: str, group: str, names: Sequence[str]) -> float:
    """Run a reader until it has opened every partition, then leave it as a crash does; the seconds it took."""
    opened = Opened()
    reader = GroupReader(servers, group, names, opened, fetch_bytes=1024, instance="one")
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
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    await _opened_after(kafka_servers, topic, [topic])
    assert await _opened_after(kafka_servers, topic, [topic]) < SESSION_TIMEOUT_MS / 1000 / 2


def test_who_reads_other_topics_has_another_name() -> None:
    """It must not be given the partitions that were assigned to one with fewer topics."""

    def name(*topics: str) -> str | None:
        return GroupReader("k:1", "g", topics, Opened(), fetch_bytes=1, instance="one")._instance

    assert name("a", "b") == name("b", "a") != name("a")
    assert GroupReader("k:1", "g", ["a"], Opened(), fetch_bytes=1)._instance is None
