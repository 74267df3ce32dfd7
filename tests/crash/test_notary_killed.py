"""`metering notary` killed between each two steps and at any moment: every day is signed once, and the bytes are the same."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from aiokafka import TopicPartition

from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.bounded import read_to_end
from pipeline.local.broker import Broker
from pipeline.notary import kept
from pipeline.notary.checkpoint import SignedCheckpoint, line_of, signed
from pipeline.notary.notary import DAYS
from pipeline.settings import Settings
from pipeline.telemetry import shown_by
from tests.support import parts, ports
from tests.support.builders import NOTARY_KEY
from tests.support.deploy import shown_otherwise
from tests.support.notary import KEYS, books
from tests.support.notary_topics import say_posted, write_rates, write_rows
from tests.support.product.processes import Role
from tests.support.product.stopping import stopped

POINTS = ("notary.fenced", "notary.sent", "notary.written", "notary.sent:2", "notary.signed")
"""Nothing written; the chunks' transaction open; committed; the checkpoint's transaction open; committed."""
KILLS, SEED = 2, 18
DAYS_A_KILL = 20
"""More than are signed until one comes."""
MADE = books("2025-03-01", DAYS_A_KILL * (KILLS + 3), 6)
DEPLOYMENT = "metering/"
"""Whose the checkpoints are where no record of the journal names an identity."""
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with all topics, and the rows of many days that are over."""
    with parts.own_broker() as own:
        asyncio.run(_fill(own))
        yield own


async def _fill(broker: Broker) -> None:
    kafka = broker.connection
    await ensure_topics(kafka, Settings(kafka_url=broker.url, partitions=1))
    await write_rates(kafka)
    await write_rows(kafka, 0, MADE.rows)
    await say_posted(kafka, MADE.days[-1], [len(MADE.rows) + 1])


def due() -> list[bytes]:
    """Return the checkpoint of each day, made by the pure core at one go."""
    made, lines = MADE.sign(), []
    last: SignedCheckpoint | None = None
    for day in MADE.days:
        last = signed(KEYS, DEPLOYMENT, day, bytes.fromhex(made.kept[day].checkpoint.root), last)
        lines.append(line_of(last))
    return lines


async def written(kafka: KafkaConnection) -> list[tuple[bytes, bytes]]:
    """Return each committed record of a checkpoint that there ever was: nothing is left out that a later one replaces."""
    found = []
    async for records in read_to_end(kafka, TopicPartition(*DAYS)):
        found += [(record.key, record.value) for record in records if record.key.startswith(kept.CHECKPOINT)]
    return found


async def _until(holds: Callable[[int], bool], kafka: KafkaConnection, notary: Role) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds(len(await written(kafka))):
        assert notary.running, notary.words()
        assert time.monotonic() < deadline, notary.words()
        await asyncio.sleep(0.02)


async def test_each_day_is_signed_once_with_the_same_bytes_wherever_the_notary_is_killed(
    broker: Broker, tmp_path: Path
) -> None:
    kafka, draw = broker.connection, random.Random(SEED)
    environment = {
        **os.environ,
        "METERING_KAFKA_URL": broker.url,
        "METERING_NOTARY_KEY": NOTARY_KEY,
        "METERING_INSTANCE": "notary",
        "METERING_WORKER_PORT": str(ports.free()),
    }
    notary = Role("notary", "notary", environment, tmp_path / "notary.log")
    try:
        for point in POINTS:
            notary.start(crash_at=point)
            assert notary.process is not None
            assert notary.process.wait(LIMIT_S) == -signal.SIGKILL, f"{point}: {notary.words()}"
        for _ in range(KILLS):
            before = len(await written(kafka))
            notary.start()
            await _until(lambda now, before=before: now > before, kafka, notary)  # type: ignore[misc]
            await asyncio.sleep(draw.uniform(0, 0.15))
            notary.kill()
        before = len(await written(kafka))
        notary.start()
        await _until(lambda now: now > before, kafka, notary)
        print(f"told to stop while it signs, a notary ends in {await stopped(notary):.1f} s")
        # The kills and the stop came while there was something to sign.
        assert len(await written(kafka)) < len(MADE.days)
        notary.start()
        await _until(lambda now: now >= len(MADE.days), kafka, notary)
        with urlopen(f"{notary.status_url}/healthz", timeout=5) as answer:
            assert json.load(answer) == {"notary": "ok"}
        with urlopen(f"{notary.status_url}/metrics", timeout=5) as answer:
            assert shown_otherwise(answer.read().decode(), shown_by("notary")) == []
        await stopped(notary)
    finally:
        notary.kill()
    records = await written(kafka)
    assert Counter(key for key, _ in records) == {kept.checkpoint_key(day): 1 for day in MADE.days}
    lines = [line_of(kept.decode_checkpoint(value).checkpoint) for _, value in records]
    assert lines == due()
