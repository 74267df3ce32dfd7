"""The upgrade of docs/deploy.md with real processes: forward beside the former release, back, and where there is no way back.

Both releases are the present code; the newer one is told to have one more migration, or the next format of the
state (tests/support/product/newer_release.py). So what is tried is how a release meets what a newer one has left, not
what two real releases make of each other: `tests/golden` tries that, in the one direction that can be tried.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from pipeline.accounts.commands import CommandRefusal, View
from pipeline.formats import STATE as STATE_FORMAT
from pipeline.formats import NewerFormatError
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, UnavailableError, new_command_id
from pipeline.local.broker import Broker
from pipeline.partitioning import partition_of
from pipeline.topics import REQUESTS
from pipeline.worker.app import EXIT_SOFTWARE
from tests.support.builders import COMMAND_KEYS, COST_NANO, event, packed, rate, time_text
from tests.support.product.newer_release import (
    SCHEMA,
    STATE,
    VARIABLE,
    knowing_the_next_format_of_the_state,
)
from tests.support.product.processes import Product, Role, product

PARTITIONS = 4
ORGS = tuple(f"org-{n}" for n in range(12))
EVENTS = 5
LIMIT_S = 60.0


@dataclass
class Upgrade:
    """A running product, and events that are charged to all its partitions."""

    product: Product
    client: CommandClient
    producer: AIOKafkaProducer
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    published: int = 0
    began_s: float = field(default_factory=time.monotonic)

    def note(self, done: str) -> None:
        """Tell what has been done, for the log."""
        print(
            f"{time.monotonic() - self.began_s:5.1f} s  {self.published * len(ORGS):4} events  {done}",
            flush=True,
        )

    async def publish(self) -> None:
        """Publish some events of every org."""
        for org, _ in itertools.product(ORGS, range(EVENTS)):
            now = time_text(time.time_ns() // 1_000_000)
            value = packed(event(f"e{next(self.numbers)}", subject=org, time=now))
            await self.producer.send_and_wait(REQUESTS, value, partition=partition_of(org, PARTITIONS))
        self.published += EVENTS

    async def charged(self) -> None:
        """Return when all that was published is charged, to the nano."""
        until = time.monotonic() + LIMIT_S
        for org in ORGS:
            while await self._balance_nano(org) != -self.published * COST_NANO:
                assert time.monotonic() < until, self.product.all_words()
                await asyncio.sleep(0.1)

    async def _balance_nano(self, org: str) -> int | None:
        try:
            seen = await self.client.send(View(new_command_id(), org))
        except UnavailableError:
            return None
        assert not isinstance(seen, CommandRefusal), seen
        return seen.balance_nano

    async def books_agree(self) -> None:
        """Everything published is charged, and state, journal and ClickHouse say so."""
        await self.product.ready()
        await self.charged()
        report = await self.product.verify()
        assert report.differences == []
        assert report.requests == self.published * len(ORGS)


def replaced(*roles: Role, newer: str | None) -> None:
    """Stop processes in order and start another release in their place: the present one where `newer` is None."""
    for role in roles:
        role.signal(signal.SIGTERM)
    for role in roles:
        assert role.process is not None
        role.process.wait(LIMIT_S)
        role.program = "pipeline" if newer is None else "tests.support.product.newer_release"
        role.environment.pop(VARIABLE, None)
        if newer is not None:
            role.environment[VARIABLE] = newer
        role.start()


async def owns(role: Role) -> None:
    """Return once a worker that was just started has taken a partition over."""
    assert role.process is not None
    until = time.monotonic() + LIMIT_S
    before = role.log.read_text().count("is ours")
    while role.log.read_text().count("is ours") == before:
        assert role.running and time.monotonic() < until, role.words()
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def upgrade(fresh_broker: Broker, tmp_path: Path) -> AsyncIterator[Upgrade]:
    """The present release with two workers, a server and its sink, and a rate."""
    async with product(fresh_broker, tmp_path, workers=2, partitions=PARTITIONS) as running:
        client = CommandClient(running.connection, COMMAND_KEYS)
        await client.start()
        async with AIOKafkaProducer(bootstrap_servers=running.servers) as producer:
            _, end = await publish_rates(running.connection, "metering", lambda *_: [rate()])
            await client.barrier(end)
            yield Upgrade(running, client, producer)
        await client.stop()


async def test_a_release_with_a_newer_schema_comes_and_goes_beside_the_former_one(upgrade: Upgrade) -> None:
    one, two = upgrade.product.workers
    server = upgrade.product.server
    assert server is not None
    await upgrade.publish()
    # Forward: the schema with server and sink, then a worker beside one of the former release.
    replaced(server, newer=SCHEMA)
    replaced(one, newer=SCHEMA)
    await owns(one)
    await upgrade.publish()
    await upgrade.charged()
    upgrade.note("server, sink and one worker are newer, the other worker is not; all is charged")
    assert "applied migration" in server.log.read_text()
    replaced(two, newer=SCHEMA)
    await upgrade.publish()
    await upgrade.books_agree()
    upgrade.note("all are newer; the books agree")
    # Back, on the schema that stays.
    replaced(server, one, two, newer=None)
    await upgrade.publish()
    await upgrade.books_agree()
    upgrade.note("all are of the former release on the newer schema; the books agree")
    assert "the schema is newer by an addition" in server.log.read_text()

    # A newer format of the state has no way back, and says so before it has written anything.
    replaced(one, two, newer=STATE)
    await upgrade.publish()
    await upgrade.charged()
    upgrade.note("the workers write a newer format of the state; all is charged")
    replaced(one, two, newer=None)
    await upgrade.publish()
    known = STATE_FORMAT.number
    for worker in (one, two):
        assert worker.process is not None
        assert worker.process.wait(LIMIT_S) == EXIT_SOFTWARE
        words = worker.log.read_text()
        assert (
            f"has format {known + 1}, which a newer release wrote; this one knows formats up to {known}"
            in words
        )
    with pytest.raises(NewerFormatError, match="Start the newer release"):
        await upgrade.product.verify()
    upgrade.note("workers and verify of the former release refuse that state")
    replaced(server, one, two, newer=STATE)
    with knowing_the_next_format_of_the_state():
        await upgrade.books_agree()
    upgrade.note("all are newer again; the books agree")
