"""How late a worker says that requests are charged, on a real broker: commands that come meanwhile do not hide it."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import Mock

from pipeline import topics
from pipeline.accounts.commands import Credit, encode
from pipeline.connection import KafkaConnection
from pipeline.gateway_book import GatewayBook
from pipeline.kafka.admin import ensure_topics
from pipeline.settings import Settings
from pipeline.telemetry import WORKER
from pipeline.worker.partition import Catalog, Partition
from tests.support import parts
from tests.support.builders import COMMAND_KEYS, Record, command_record, event, packed, rate_table, time_text

LATE_S = 3_600


class Followed(Mock):
    """A catalog that is read to its end already."""

    async def reached(self, *_: object) -> None:
        """Return at once."""


def behind_s() -> float | None:
    """Return what is shown of partition 0."""
    return WORKER.registry.get_sample_value("metering_worker_behind_seconds", {"partition": "0"})


def test_commands_that_come_meanwhile_do_not_hide_that_requests_are_late() -> None:
    now_ms = time.time_ns() // 1_000_000
    sent_ms = now_ms - LATE_S * 1000
    credit = encode(Credit(id="c1", org="org_1", amount_nano=5, reason="r"))
    late = Record(timestamp=sent_ms, value=packed(event(time=time_text(sent_ms))))

    async def work(kafka: KafkaConnection) -> None:
        await ensure_topics(kafka, Settings(partitions=1))
        catalog = Catalog(rate_table(), Mock(), GatewayBook(), Followed())
        partition = Partition(kafka, "metering", 0, 1, catalog, COMMAND_KEYS, asyncio.Lock())
        await partition.open()
        await partition.work(topics.BILLING, [command_record(credit, 0, at_ms=now_ms)])
        await partition.work(topics.REQUESTS, [late])
        shown = behind_s()
        assert shown is not None and shown >= LATE_S
        # A command says nothing of requests: what was shown stays.
        await partition.work(topics.BILLING, [command_record(credit, 0, offset=1, at_ms=now_ms)])
        assert behind_s() == shown
        await partition.close()

    with parts.own_broker() as broker:
        asyncio.run(work(broker.connection))
