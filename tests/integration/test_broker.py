"""The embedded broker, for real: it starts, keeps what was written, and says why it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.local.broker import Broker
from pipeline.local.errors import LocalError

_TOPIC = "kept"


async def _create(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(_TOPIC, 1, 1)])
    await admin.close()


async def _write(servers: str, *values: bytes) -> None:
    """Write in one transaction, as the worker does."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="writer")
    await producer.start()
    async with producer.transaction():
        for value in values:
            await producer.send_and_wait(_TOPIC, value)
    await producer.stop()


async def _read(servers: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        _TOPIC, bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_what_was_written_is_there_after_a_stop_and_after_a_kill(fresh_broker: Broker) -> None:
    await _create(fresh_broker.servers)
    await _write(fresh_broker.servers, b"one", b"two")
    assert await _read(fresh_broker.servers, 2) == [b"one", b"two"]

    await fresh_broker.stop()
    await fresh_broker.start()
    await _write(fresh_broker.servers, b"three")

    os.kill(fresh_broker.process.pid, signal.SIGKILL)
    assert await fresh_broker.process.wait() == -signal.SIGKILL
    await fresh_broker.start()
    assert await _read(fresh_broker.servers, 3) == [b"one", b"two", b"three"]


async def test_a_second_broker_is_told_what_is_taken(fresh_broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=f"port {fresh_broker.port} is taken"):
        await Broker(tmp_path, fresh_broker.port).start()

    with pytest.raises(LocalError, match="another broker runs on"):
        await Broker(fresh_broker.home, 0).start()
    assert fresh_broker.process.exit_code is None


async def test_a_broker_that_is_given_up_stops_waiting(tmp_path: Path) -> None:
    broker = Broker(tmp_path, 0)
    await broker.start(lambda: True)
    await broker.stop()
    assert broker.process.exit_code is not None


async def test_a_controller_port_that_was_taken_meanwhile_is_exchanged(fresh_broker: Broker) -> None:
    await _create(fresh_broker.servers)
    await _write(fresh_broker.servers, b"one")
    await fresh_broker.stop()
    remembered = int((fresh_broker.home / "controller-port").read_text())
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", remembered))
        squatter.listen()
        await fresh_broker.start()
    assert int((fresh_broker.home / "controller-port").read_text()) != remembered
    assert await _read(fresh_broker.servers, 1) == [b"one"]
