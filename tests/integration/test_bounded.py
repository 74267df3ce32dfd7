"""Reading up to where something is known to be committed, though its marker comes a moment later."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from pipeline.connection import KafkaConnection
from pipeline.kafka import bounded
from pipeline.kafka.bounded import read_until
from pipeline.kafka.clients import started_admin


async def _place(kafka: KafkaConnection) -> TopicPartition:
    place = TopicPartition(f"bounded-{time.monotonic_ns()}", 0)
    async with started_admin(kafka) as admin:
        await admin.create_topics([NewTopic(place.topic, 1, 1)])
    return place


async def _read(kafka: KafkaConnection, place: TopicPartition, enough: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    async for records in read_until(kafka, place, lambda: found == enough):
        found.extend(record.value for record in records)
    return found


async def test_what_is_committed_a_moment_later_is_waited_for_and_nothing_is_read_twice(
    kafka_servers: str,
) -> None:
    kafka = KafkaConnection(kafka_servers)
    place = await _place(kafka)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_servers, transactional_id=f"late-{place.topic}"
    ) as producer:
        async with producer.transaction():
            await producer.send_and_wait(place.topic, b"first", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(place.topic, b"second", partition=0)
        reading = asyncio.create_task(_read(kafka, place, [b"first", b"second"]))
        await asyncio.sleep(1)
        assert not reading.done()
        await producer.commit_transaction()
        assert await reading == [b"first", b"second"]


async def test_what_never_comes_is_not_waited_for_for_ever(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MARKER_WAIT_S", 0.01)
    kafka = KafkaConnection(kafka_servers)
    place = await _place(kafka)
    async with AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer:
        await producer.send_and_wait(place.topic, b"first", partition=0)
    assert await _read(kafka, place, [b"first", b"second"]) == [b"first"]
