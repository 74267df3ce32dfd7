"""The power is cut under the embedded broker: what it has acknowledged is there, and the worker goes on from it.

The broker writes to a file system of its own (tests/support/disk.py), of which only what was synced is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.accounts.commands import View
from pipeline.accounts.results import AccountView
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, UnavailableError, new_command_id
from pipeline.local.broker import Broker
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.topics import REQUESTS
from tests.support import ports
from tests.support.builders import COMMAND_KEYS, COST_NANO, event, packed, rate, time_text
from tests.support.disk import LoopDisk, power_disk
from tests.support.product.processes import Product

PARTITIONS = 2
ORGS = tuple(f"org-{n}" for n in range(6))
ROUNDS, ROUNDS_AFTER_THE_WAIT = 10, 10
LIMIT_S = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk whose power can be cut."""
    with power_disk(tmp_path) as made:
        yield made


@dataclass
class Powered:
    """A broker on a disk, a worker, and a client."""

    broker: Broker
    running: Product
    client: CommandClient

    @classmethod
    @asynccontextmanager
    async def on(cls, path: Path, home: Path) -> AsyncIterator[Powered]:
        """Run them for as long as the block; at its end the broker is killed, whatever it has not synced."""
        broker = Broker(path / "kafka", ports.free())
        await broker.start()
        running = Product(broker, home)
        client = CommandClient(broker.connection, COMMAND_KEYS)
        try:
            await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS))
            running.add_worker().start()
            await client.start()
            yield cls(broker, running, client)
        finally:
            os.kill(broker.process.pid, signal.SIGKILL)
            running.stop()
            await client.stop()
            await broker.stop()

    async def publish(self, rounds: int, first: int) -> None:
        """Publish an event of each org, again and again; return when the broker has acknowledged all."""
        async with AIOKafkaProducer(bootstrap_servers=self.broker.servers, acks="all") as producer:
            for number in range(first, first + rounds):
                now = time_text(time.time_ns() // 1_000_000)
                for org in ORGS:
                    value = packed(event(f"{org}-{number}", subject=org, time=now))
                    await producer.send_and_wait(REQUESTS, value, partition=partition_of(org, PARTITIONS))

    async def charged(self, events: int) -> None:
        """Return when each org is charged for so many events, to the nano-rupee."""
        until = time.monotonic() + LIMIT_S
        for org in ORGS:
            found = None
            while found != -events * COST_NANO:
                assert time.monotonic() < until, (
                    f"{org}: {found} and not {-events * COST_NANO}\n{self.running.all_words()}"
                )
                try:
                    account = await self.client.send(View(new_command_id(), org), 10)
                except UnavailableError:
                    continue
                assert isinstance(account, AccountView), account
                found = account.balance_nano
                await asyncio.sleep(0.05)


async def test_what_the_embedded_broker_acknowledged_outlives_a_power_cut(
    disk: LoopDisk, tmp_path: Path
) -> None:
    async with Powered.on(disk.path, tmp_path) as before:
        await publish_rates(before.broker.connection, "metering", lambda *_: [rate()])
        await before.publish(ROUNDS, 0)
        await before.charged(ROUNDS)
        # Charged or not, these were acknowledged: the units that charge them are cut where they are.
        await before.publish(ROUNDS_AFTER_THE_WAIT, ROUNDS)
    async with Powered.on(disk.cut(), tmp_path) as after:
        await after.charged(ROUNDS + ROUNDS_AFTER_THE_WAIT)
