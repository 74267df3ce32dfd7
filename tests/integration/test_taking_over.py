"""Taking a partition over on a real broker: a lost state is refused, and whoever was overtaken learns just that.

One broker serves both tests; each has a partition of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from aiokafka.errors import ProducerFenced

from pipeline import topics
from pipeline.accounts.commands import Credit, encode
from pipeline.connection import KafkaConnection
from pipeline.driving import drive
from pipeline.journal import LEDGER, LedgerRow, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog
from pipeline.partitioning import partition_of
from pipeline.posting.protocol import WorkerStep, take_over
from pipeline.posting.state import StateError
from pipeline.settings import Settings
from pipeline.steps import LastHeaders, Output, TopicPlace
from pipeline.worker.partition import Catalog, Partition
from tests.support import parts
from tests.support.builders import COMMAND_KEYS, command_record, rate_table

PARTITIONS = 2
OVERTAKEN = partition_of("org_1", PARTITIONS)
LOST = 1 - OVERTAKEN


class Followed(Mock):
    """A catalog that is read to its end already."""

    async def reached(self, *_: object) -> None:
        """Return at once."""


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    """host:port of a broker with all topics."""
    with parts.own_broker() as broker:
        asyncio.run(ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=PARTITIONS)))
        yield broker.servers


def _partition(servers: str, number: int) -> Partition:
    catalog = Catalog(rate_table(), Mock(), Followed())
    return Partition(
        KafkaConnection(servers), "metering", number, PARTITIONS, catalog, COMMAND_KEYS, asyncio.Lock()
    )


async def test_who_is_overtaken_during_its_restore_is_fenced_not_told_of_a_loss(servers: str) -> None:
    slow, fast = _partition(servers, OVERTAKEN), _partition(servers, OVERTAKEN)
    credit = encode(Credit(id="c1", org="org_1", amount_nano=5, reason="r"))

    async def take_overtaken(step: WorkerStep) -> object:
        if isinstance(step, LastHeaders):
            await fast.open()
            await fast.work(topics.BILLING, [command_record(credit, OVERTAKEN)])
        return await slow._take(step)

    with pytest.raises(ProducerFenced):
        await drive(take_over("metering", OVERTAKEN, PARTITIONS), take_overtaken)
    await fast.close()
    await slow.close()
    after = _partition(servers, OVERTAKEN)
    assert await after.open() == {topics.BILLING: 1}
    await after.close()


async def test_a_state_that_lost_what_the_journal_has_is_refused(servers: str) -> None:
    [record] = encode_rows(LEDGER, [LedgerRow(public_id(LOST, 1), "org_1", 0, "promo", 5, 5, "", "", "", "")])
    writer = FencedLog(KafkaConnection(servers), f"metering-{LOST}", role="worker")
    await writer.start()
    place = TopicPlace(topics.JOURNAL, LOST)
    await writer.commit({place: [Output(None, record.value, record.headers())]})
    await writer.close()
    partition = _partition(servers, LOST)
    with pytest.raises(StateError, match="state topic lost records"):
        await partition.open()
    await partition.close()
