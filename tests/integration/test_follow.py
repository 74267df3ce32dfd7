"""Following compacted topics on a real broker: tombstones, bad records, snapshots, and brokers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from pipeline.connection import KafkaConnection
from pipeline.formats import NewerFormatError
from pipeline.kafka import follow
from pipeline.kafka.clients import producer, started_admin
from pipeline.kafka.follow import SilentTopicError, StaleError, Subscription, TopicFollower
from pipeline.local.broker import Broker

LIMIT_S = 60.0


class Numbers:
    """Whole numbers by key: a record that holds anything else cannot be understood."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.known[key] = int(value)

    def delete(self, key: bytes) -> None:
        self.known.pop(key, None)


async def _topic(kafka: KafkaConnection) -> str:
    name = f"follow-{time.time_ns()}"
    async with started_admin(kafka) as admin:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    return name


async def _write(kafka: KafkaConnection, topic: str, *records: tuple[bytes, bytes | None]) -> None:
    writer = producer(kafka)
    await writer.start()
    try:
        for key, value in records:
            await writer.send_and_wait(topic, value, key=key, partition=0)
    finally:
        await writer.stop()


async def _eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_deleted_key_is_gone_and_a_bad_record_concerns_nobody_else(
    kafka_servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka, counted = KafkaConnection(kafka_servers), list[str]()
    topic = await _topic(kafka)
    await _write(
        *(kafka, topic, (b"a", b"1"), (b"b", b"2"), (b"bad", b"one"), (b"a", None)),
        *((b"never there", None), (b"worse", b"two"), (b"c", b"3")),
    )
    numbers = Numbers()
    follower = TopicFollower(
        kafka, [Subscription(topic, numbers.put, numbers.delete)], count_bad=counted.append
    )
    await follower.start()
    try:
        assert numbers.known == {b"b": 2, b"c": 3}
        assert (follower.bad_records, counted) == (2, [topic, topic])
        told = [line for line in caplog.messages if f"{topic}/0@2 cannot be understood" in line]
        assert len(told) == 1 and "invalid literal" in told[0]
        await _write(kafka, topic, (b"c", None), (b"d", b"4"))
        await follower.reached(topic, 9)
        assert numbers.known == {b"b": 2, b"d": 4}
        follower.check_fresh(LIMIT_S)
    finally:
        await follower.stop()


async def test_nothing_after_a_record_of_a_newer_release_is_taken(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    topic = await _topic(kafka)
    numbers = Numbers()

    def put(key: bytes, value: bytes) -> None:
        if value == b"newer":
            raise NewerFormatError(value)
        numbers.put(key, value)

    subscription = Subscription(topic, put, numbers.delete)
    follower = TopicFollower(kafka, [subscription])
    await follower.start()
    try:
        follower.check_fresh(LIMIT_S)
        await _write(kafka, topic, (b"a", b"1"), (b"b", b"newer"), (b"c", b"3"))
        await _eventually(lambda: follower.problem is not None)
        with pytest.raises(StaleError, match="NewerFormatError"):
            follower.check_fresh(LIMIT_S)
        assert numbers.known == {b"a": 1}
    finally:
        await follower.stop()
    with pytest.raises(NewerFormatError):
        await TopicFollower(kafka, [subscription]).start()


async def test_it_begins_where_a_snapshot_ends(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    topic = await _topic(kafka)
    await _write(kafka, topic, (b"a", b"1"), (b"b", b"2"))
    first = Numbers()
    before = TopicFollower(kafka, [Subscription(topic, first.put, first.delete)])
    await before.start()
    await before.stop()
    snapshot = before.next_offsets
    assert snapshot == {TopicPartition(topic, 0): 2}
    await _write(kafka, topic, (b"a", None), (b"c", b"3"))
    later = Numbers()
    after = TopicFollower(kafka, [Subscription(topic, later.put, later.delete)], start_at=snapshot)
    later.known = dict(first.known)
    await after.start()
    await after.stop()
    assert (later.known, after.records) == ({b"b": 2, b"c": 3}, 2)


async def test_who_begins_at_the_end_is_told_only_what_comes(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    topic = await _topic(kafka)
    await _write(kafka, topic, (b"a", b"1"))
    numbers = Numbers()
    follower = TopicFollower(kafka, [Subscription(topic, numbers.put)], from_end=True)
    await follower.start()
    try:
        await _write(kafka, topic, (b"b", b"2"), (b"b", None))
        await follower.reached(topic, 3)
        assert numbers.known == {b"b": 2}
    finally:
        await follower.stop()


async def test_an_offset_beyond_the_end_holds_nobody_up(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    topic = await _topic(kafka)
    await _write(kafka, topic, (b"a", b"1"))
    follower = TopicFollower(kafka, [Subscription(topic, Numbers().put)])
    await follower.start()
    try:
        await follower.reached(topic, 10**9)
    finally:
        await follower.stop()


async def test_a_topic_that_does_not_exist_is_named(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "CONNECT_LIMIT_S", 1.0)
    follower = TopicFollower(KafkaConnection(kafka_servers), [Subscription("not-there", Numbers().put)])
    with pytest.raises(SilentTopicError, match="not-there: does it exist"):
        await follower.start()


async def test_it_says_how_old_it_is_while_the_broker_is_away_and_goes_on_where_it_was(
    fresh_broker: Broker,
) -> None:
    kafka = fresh_broker.connection
    topic = await _topic(kafka)
    await _write(kafka, topic, (b"a", b"1"), (b"bad", b"one"))
    numbers = Numbers()
    follower = TopicFollower(kafka, [Subscription(topic, numbers.put, numbers.delete)], confirm_every_s=0.1)
    await follower.start()
    try:
        await fresh_broker.stop()
        await _eventually(lambda: follower.age_s() > 1)
        with pytest.raises(StaleError, match=f"{topic} was last read to its end"):
            follower.check_fresh(1)
        await fresh_broker.start()
        await _eventually(lambda: follower.age_s() < 1)
        await _write(kafka, topic, (b"a", None), (b"b", b"2"))
        await _eventually(lambda: numbers.known == {b"b": 2})
        assert (follower.records, follower.bad_records, follower.problem) == (4, 1, None)
    finally:
        await follower.stop()
