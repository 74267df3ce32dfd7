"""The embedded broker, for real: it starts, keeps what was written, and says why it cannot start.

One broker serves all tests here that need one; each has a topic of its own, and may stop and kill it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.clients import producer, started_admin
from pipeline.local.broker import Broker
from pipeline.local.errors import LocalError
from pipeline.local.rights import Rights
from pipeline.settings import Settings
from pipeline.topics import JOURNAL, REQUESTS, TOPICS
from tests.support import parts


@pytest.fixture(scope="module")
def one_broker() -> Iterator[Broker]:
    """The broker of these tests, running or not."""
    with parts.own_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def broker(one_broker: Broker) -> AsyncIterator[Broker]:
    """The broker of these tests, running, whatever the test before did to it."""
    if one_broker.process.exit_code is not None:
        await one_broker.start()
    yield one_broker


async def _create(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def _write(servers: str, topic: str, *values: bytes) -> None:
    """Write in one transaction, as the worker does."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="writer")
    await producer.start()
    async with producer.transaction():
        for value in values:
            await producer.send_and_wait(topic, value)
    await producer.stop()


async def _read(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_what_was_written_is_there_after_a_stop_and_after_a_kill(broker: Broker) -> None:
    await _create(broker.servers, "kept")
    await _write(broker.servers, "kept", b"one", b"two")
    assert await _read(broker.servers, "kept", 2) == [b"one", b"two"]

    await broker.stop()
    await broker.start()
    await _write(broker.servers, "kept", b"three")

    os.kill(broker.process.pid, signal.SIGKILL)
    assert await broker.process.wait() == -signal.SIGKILL
    await broker.start()
    assert await _read(broker.servers, "kept", 3) == [b"one", b"two", b"three"]


async def test_a_second_broker_is_told_what_is_taken(broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=f"port {broker.port} is taken"):
        await Broker(tmp_path, broker.port).start()

    with pytest.raises(LocalError, match="another broker runs on"):
        await Broker(broker.home, 0).start()
    assert broker.process.exit_code is None


async def test_a_broker_that_is_given_up_stops_waiting(tmp_path: Path) -> None:
    broker = Broker(tmp_path, 0)
    await broker.start(lambda: True)
    await broker.stop()
    assert broker.process.exit_code is not None


async def test_a_controller_port_that_was_taken_meanwhile_is_exchanged(broker: Broker) -> None:
    await _create(broker.servers, "moved")
    await _write(broker.servers, "moved", b"one")
    await broker.stop()
    remembered = int((broker.home / "controller-port").read_text())
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", remembered))
        squatter.listen()
        await broker.start()
    assert int((broker.home / "controller-port").read_text()) != remembered
    assert await _read(broker.servers, "moved", 1) == [b"one"]


async def test_who_has_no_password_may_do_what_a_gateway_does_and_nothing_more(tmp_path: Path) -> None:
    broker = Broker(tmp_path, 0, rights=Rights("a password of the tests", "metering"))
    await broker.start()
    try:
        own = broker.connection
        await ensure_topics(own, Settings(kafka_url=f"kafka://{own.servers}", partitions=1))
        await _write(broker.servers, REQUESTS, b"an event")
        assert await _read(broker.servers, REQUESTS, 1) == [b"an event"]
        for topic in (each.name for each in TOPICS if each.name != REQUESTS):
            with pytest.raises(TopicAuthorizationFailedError):
                await _write(broker.servers, topic, b"a million for me")
        async with producer(own) as ours:
            await ours.send_and_wait(JOURNAL, b"a row")
        assert await _read(broker.servers, JOURNAL, 1) == [b"a row"]

        anybody = KafkaConnection(broker.servers)
        async with started_admin(anybody) as admin:
            [created] = (await admin.create_topics([NewTopic("mine", 1, 1)])).topic_errors
            assert created[1] in (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)
            [deleted] = (await admin.delete_topics([JOURNAL])).topic_error_codes
            assert deleted[1] == TopicAuthorizationFailedError.errno
        # By the product's own names it could shut the product out.
        with pytest.raises(TransactionalIdAuthorizationFailed):
            await AIOKafkaProducer(bootstrap_servers=broker.servers, transactional_id="metering-0").start()
        for role in ("worker", "sink", "mail", "webhooks", "notary"):
            with pytest.raises(GroupAuthorizationFailedError):
                await _joins(anybody, f"metering-{role}")
        await _joins(anybody, "somebody-else")

        guess = KafkaConnection(own.servers, replace(own.security, password="a guess"))
        for stranger in (guess, KafkaConnection(own.servers)):
            with pytest.raises(KafkaError):
                await producer(stranger, request_timeout_ms=2_000).start()
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "server.properties").stat().st_mode & 0o777 == 0o600
        assert "a password of the tests" not in broker.log.read_text(errors="replace")
    finally:
        await broker.stop()


async def _joins(kafka: KafkaConnection, group: str) -> None:
    """Become a member of a consumer group. Raises the error of the broker that does not let it."""
    consumer = AIOKafkaConsumer(REQUESTS, group_id=group, **kafka.client_arguments())
    try:
        await consumer.start()
        await consumer.getmany(timeout_ms=100)
    finally:
        await consumer.stop()
