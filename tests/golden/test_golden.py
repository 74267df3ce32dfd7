"""The present code starts on what each release left behind, charges, and finds the books right."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.commands import CommandRefusal, View
from pipeline.connection import KafkaConnection
from pipeline.gateway import Gateway
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.commands import CommandClient
from pipeline.local.deployment import Deployment
from pipeline.partitioning import partition_of
from pipeline.topics import REQUESTS
from tests.support import parts
from tests.support.builders import COST_NANO, event, packed, time_text
from tests.support.golden.directory import GOLDEN, Expected, metering, unpack, up

ARCHIVES = sorted(GOLDEN.glob("*.tar.xz"))
CHARGED_LIMIT_S = 30.0
SENT_LIMIT_S = 30.0


def test_there_is_a_directory_of_a_release() -> None:
    assert ARCHIVES


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.xz"))
def test_the_present_code_goes_on_with_what_a_release_left(archive: Path, tmp_path: Path) -> None:
    if parts.chosen() != parts.LOCAL:
        pytest.skip("a directory that a release left is one of the embedded broker and engine")
    data_dir = tmp_path / "data"
    expected = unpack(archive, data_dir)
    with up(data_dir) as at:
        asyncio.run(_goes_on(at, data_dir, expected))
        report = metering(data_dir, "verify")
        assert report["differences"] == []
        assert report["requests"] >= 10
        assert report["ledger_entries"] >= 7
        redriven = metering(data_dir, "redrive")
        assert (redriven["redriven"], redriven["earlier"]) == (0, 1)
        # Its rows were stored before there were identities; the database is made of its journal again, beside the sink.
        rows = report["requests"] + report["ledger_entries"]
        assert metering(data_dir, "rebuild", "clickhouse")["rows"] >= rows
        assert metering(data_dir, "rebuild", "roll-ups")["first_day"] is not None
        assert metering(data_dir, "verify")["differences"] == []


async def _goes_on(at: Deployment, data_dir: Path, expected: Expected) -> None:
    client = CommandClient(at.kafka, CommandKeys.parse(at.command_key))
    await client.start()

    async def balance_nano(org: str) -> int:
        seen = await client.send(View(f"view-{org}-{time.monotonic_ns()}", org))
        assert not isinstance(seen, CommandRefusal), seen
        return seen.balance_nano

    try:
        assert {org: await balance_nano(org) for org in expected.balance_nano} == expected.balance_nano
        await _charge(KafkaConnection(at.gateway_kafka_url.removeprefix("kafka://")), expected)
        until = time.monotonic() + CHARGED_LIMIT_S
        while await balance_nano("org_1") == expected.balance_nano["org_1"]:
            assert time.monotonic() < until, "the event is not charged"
        assert await balance_nano("org_1") == expected.balance_nano["org_1"] - COST_NANO
        await _send_what_waited(at, data_dir)
        # By now they may be too old to be charged, but all of them are there.
        assert expected.waiting == await _published(at.kafka, "org_3", 2)
    finally:
        await client.stop()


async def _charge(kafka: KafkaConnection, expected: Expected) -> None:
    """Publish one event of now, or of a minute after the directory was made where this machine's clock is behind."""
    at_ms = max(time.time_ns() // 1_000_000, expected.made_ms + 60_000)
    value = packed(event("of the test", time=time_text(at_ms)))
    async with AIOKafkaProducer(bootstrap_servers=kafka.servers) as producer:
        await producer.send_and_wait(REQUESTS, value, partition=partition_of("org_1", 2))


async def _send_what_waited(at: Deployment, data_dir: Path) -> None:
    async with Gateway(
        kafka_url=at.gateway_kafka_url, node="golden", spool_dir=data_dir / "spool"
    ) as gateway:
        until = time.monotonic() + SENT_LIMIT_S
        while gateway.status().waiting_events:
            assert time.monotonic() < until, gateway.status()
            await asyncio.sleep(0.05)
        # A key that the release registered, and the balance that its worker told.
        assert gateway.admit("org_1", "key_1", max_cost_inr="1") is None
        assert gateway.status().orgs_known >= len(("org_1", "org_2"))


async def _published(kafka: KafkaConnection, org: str, partitions: int) -> list[str]:
    """Return the ids of an org's events in the topic, in order."""
    place = TopicPartition(REQUESTS, partition_of(org, partitions))
    found = []
    async for records in read_to_end(kafka, place):
        for record in records:
            value = json.loads(record.value)
            found += [
                each["id"]
                for each in (value if isinstance(value, list) else [value])
                if each["subject"] == org
            ]
    return found
