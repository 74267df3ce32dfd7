"""Taking a partition over on a real broker: a lost state is refused, and whoever was overtaken learns just that."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from pipeline import topics
from pipeline.accounts.commands import Credit, encode
from pipeline.journal import LEDGER, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.local.broker import Broker
from pipeline.posting.state import StateError
from pipeline.settings import Settings
from pipeline.worker.partition import Catalog, Partition
from tests.builders import Record, rate_table


class Followed(Mock):
    """A catalog that is read to its end already."""

    async def reached(self, *_: object) -> None:
        """Return at once."""


def _partition(servers: str) -> Partition:
    catalog = Catalog(rate_table(), Followed(), Mock(), Followed())
    return Partition(servers, "metering", 0, 1, catalog, asyncio.Lock())


async def _topics(broker: Broker) -> str:
    servers = broker.servers
    await ensure_topics(servers, Settings(kafka_url=f"kafka://{servers}", partitions=1))
    return servers


async def test_who_is_overtaken_during_its_restore_is_fenced_not_told_of_a_loss(fresh_broker: Broker) -> None:
    servers = await _topics(fresh_broker)
    slow, fast = _partition(servers), _partition(servers)
    await slow._log.start()
    await fast.open()
    credit = encode(Credit(id="c1", org="org_1", amount_nano=5, reason="r"))
    await fast.work(topics.BILLING, [Record(topics.BILLING, value=credit)])
    with pytest.raises(ProducerFenced):
        await slow._check_against_journal()
    await fast.close()
    await slow.close()
    after = _partition(servers)
    assert await after.open() == {topics.BILLING: 1}
    await after.close()


async def test_a_state_that_lost_what_the_journal_has_is_refused(fresh_broker: Broker) -> None:
    servers = await _topics(fresh_broker)
    [record] = encode_rows(LEDGER, [(public_id(0, 1), "org_1", 0, "promo", 5, 5, "", "", "", "")])
    writer = FencedLog(servers, "metering-0", role="worker")
    await writer.start()
    place = TopicPartition(topics.JOURNAL, 0)
    await writer.commit({place: [Output(None, record.value, record.headers())]})
    await writer.close()
    partition = _partition(servers)
    with pytest.raises(StateError, match="state topic lost records"):
        await partition.open()
    await partition.close()
