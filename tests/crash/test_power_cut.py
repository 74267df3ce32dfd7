"""After a power cut the embedded broker, and `metering up` as a whole, start and have all that was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import CommandRefusal, View
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.clients import producer
from pipeline.kafka.commands import CommandClient
from pipeline.kafka.fenced import FencedLog, read_compacted
from pipeline.local.broker import Broker
from pipeline.local.deployment import Deployment
from pipeline.partitioning import partition_of
from pipeline.settings import Settings
from pipeline.steps import Output, TopicPlace
from tests.support import power
from tests.support.builders import event, packed, time_text
from tests.support.golden.directory import metering, up
from tests.support.power import Disk
from tests.support.product.deployment import CATALOG

PARTITIONS = 2
LIMIT_S = 60
CLOSE_LIMIT_S = 1.0
CUTS = int(float(os.environ.get("METERING_TEST_CHAOS_SECONDS", "0")) / 60)
"""How often the power of the whole product is cut: once for each minute of `make crash`."""
ROUNDS = (3, 40) if CUTS else (20,)
"""After how many units of work the power is cut: soon after the first start, and later."""
ORG = "org_cut"
CREDIT_INR = 100
COST_NANO = 7_500_000
"""Of an event of tests/support/builders.py by the shipped catalog: 0.0075 rupees."""
EVENTS = 400
"""Of each round, the last acknowledged just before the cut."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk whose power can be cut."""
    with power.disk(tmp_path) as disk:
        yield disk


class _Writers:
    """What a worker and a gateway write at a time, and what of it was acknowledged."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.units: list[int] = []
        self.events: list[int] = []

    async def units_of_work(self, first: int) -> None:
        """Write units until it fails: each is a record of the state and one of the journal, in a transaction."""
        log = FencedLog(self._broker.connection, "metering-0", role="worker", limit_s=5)
        try:
            await log.start()
            for n in itertools.count(first):
                record = Output(b"m", str(n).encode())
                await log.commit({TopicPlace(topic, 0): [record] for topic in (topics.STATE, topics.JOURNAL)})
                self.units.append(n)
        finally:
            await log.close()

    async def requests(self, first: int) -> None:
        """Write events until it fails, each confirmed before the next."""
        gateway = producer(self._broker.connection, request_timeout_ms=5_000)
        try:
            await gateway.start()
            for n in itertools.count(first):
                await gateway.send_and_wait(topics.REQUESTS, str(n).encode(), partition=1)
                self.events.append(n)
        finally:
            # What is on its way to a broker that is gone is tried for ever.
            with suppress(TimeoutError):
                await asyncio.wait_for(gateway.stop(), CLOSE_LIMIT_S)


async def _values(broker: Broker, topic: str, partition: int) -> list[int]:
    where = TopicPartition(topic, partition)
    return [int(r.value) async for records in read_to_end(broker.connection, where) for r in records]


def _lost(acknowledged: list[int], found: list[int]) -> list[int]:
    """Return the first of what was acknowledged and is not there, or not in its place."""
    there = [*found, *[-1] * len(acknowledged)]
    return [n for place, n in enumerate(acknowledged) if there[place] != n][:5]


async def test_after_a_power_cut_the_broker_starts_and_has_what_it_acknowledged(disk: Disk) -> None:
    broker = Broker(disk.where / "kafka", 0)
    writers = _Writers(broker)
    try:
        await broker.start()
        await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS))
        for units in ROUNDS:
            first, events = len(writers.units), len(writers.events)
            writing = [
                asyncio.create_task(writers.units_of_work(first)),
                asyncio.create_task(writers.requests(events)),
            ]
            async with asyncio.timeout(LIMIT_S):
                while len(writers.units) < first + units or len(writers.events) < events + units:
                    await asyncio.sleep(0.01)
                    for task in writing:
                        assert not task.done(), task.result()
            disk.cut()
            await broker.stop(seconds_max=0)
            for task in writing:
                task.cancel()
                with suppress(KafkaError, TimeoutError, asyncio.CancelledError):
                    await task
            await asyncio.to_thread(disk.restore)

            await broker.start()
            journal = await _values(broker, topics.JOURNAL, 0)
            state = await read_compacted(broker.connection, TopicPartition(topics.STATE, 0))
            assert _lost(writers.units, journal) == []
            assert int(state[b"m"]) == journal[-1], "state and journal end with different units"
            requests = await _values(broker, topics.REQUESTS, 1)
            assert _lost(writers.events, requests) == []
            # What was on its way when the power went may be there or not.
            writers.units, writers.events = journal, requests
    finally:
        await broker.stop(seconds_max=0)


class PowerGoneError(Exception):
    """The power was cut."""


class _Gateway:
    """Publishes events to an `up` and knows what the org must have."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.acknowledged = 0

    async def publish_until_cut(self, at: Deployment) -> None:
        """Publish EVENTS events, each acknowledged before the next, and cut the power after the last. Always raises."""
        async with producer(at.kafka) as writer:
            for n in range(self.acknowledged, self.acknowledged + EVENTS):
                made = event(f"cut-{n}", subject=ORG, time=time_text(time.time_ns() // 1_000_000))
                place = partition_of(ORG, PARTITIONS)
                await writer.send_and_wait(topics.REQUESTS, packed(made), partition=place)
                self.acknowledged += 1
            self._disk.cut()
            raise PowerGoneError

    @property
    def due_nano(self) -> int:
        """What all acknowledged events cost."""
        return self.acknowledged * COST_NANO


async def _until_charged(at: Deployment, balance_nano: int) -> None:
    """Return when the org has this balance."""
    client = CommandClient(at.kafka, CommandKeys.parse(at.command_key))
    await client.start()
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                seen = await client.send(View(f"view-{time.monotonic_ns()}", ORG))
                assert not isinstance(seen, CommandRefusal), seen
                assert seen.balance_nano >= balance_nano, "more is charged than was published"
                if seen.balance_nano == balance_nano:
                    return
                await asyncio.sleep(0.2)
    finally:
        await client.stop()


@pytest.mark.skipif(not CUTS, reason="`make crash` cuts the power of the whole product, and takes minutes")
def test_after_power_cuts_the_product_starts_and_its_books_are_right(disk: Disk) -> None:
    data_dir, gateway = disk.where / "data", _Gateway(disk)
    took_s: list[float] = []
    for cut in range(CUTS):
        began_s = time.monotonic()
        with suppress(PowerGoneError), up(data_dir) as at:
            took_s.append(time.monotonic() - began_s)
            if not cut:
                metering(data_dir, "catalog", "apply", str(CATALOG))
                metering(data_dir, "credit", ORG, "--inr", str(CREDIT_INR), "--reason", "test")
            asyncio.run(gateway.publish_until_cut(at))
        disk.restore()
    with up(data_dir) as at:
        asyncio.run(_until_charged(at, CREDIT_INR * 10**9 - gateway.due_nano))
        report = metering(data_dir, "verify", "--full")
    assert (report["differences"], report["requests"]) == ([], gateway.acknowledged)
    print(
        f"{CUTS} power cuts, {gateway.acknowledged} events; ready after {[round(each, 1) for each in took_s]} s"
    )
