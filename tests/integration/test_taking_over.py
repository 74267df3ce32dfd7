"""Taking a partition over on a real broker: a lost state is refused, and whoever was overtaken learns just that.

And what is lost under a running worker is noticed. One broker serves all tests; the last one deletes topics.
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
from pipeline.gateway_book import GatewayBook
from pipeline.journal import LEDGER, LedgerRow, encode_rows, public_id
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.clients import producer, started_admin
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.topic_ids import topic_ids
from pipeline.partitioning import partition_of
from pipeline.posting.protocol import WorkerStep, take_over
from pipeline.posting.state import StateError
from pipeline.settings import Settings
from pipeline.steps import AnotherTopicError, LastHeaders, Output, TopicPlace
from pipeline.telemetry import WORKER
from pipeline.worker import ends_watch
from pipeline.worker.ends_watch import EndsWatch
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
    catalog = Catalog(rate_table(), Mock(), GatewayBook(), Followed())
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


async def test_what_is_lost_of_a_partition_that_nobody_takes_over_is_noticed(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test before has left: a journal with a row that the state topic knows nothing of."""
    monkeypatch.setattr(ends_watch, "LOOK_AGAIN_S", 0.01)
    assert await EndsWatch(KafkaConnection(servers), 3600).look(LOST, {}) == [
        "metering.state.accounts lost records: the state's next position is 1, the journal's is 2 to 2"
    ]


async def _made_anew(kafka: KafkaConnection, topic: str) -> None:
    async with started_admin(kafka) as admin:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            await asyncio.sleep(0.02)
    await ensure_topics(kafka, Settings(partitions=PARTITIONS))


async def test_topics_that_are_made_anew_under_a_running_worker_are_noticed(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends_watch, "LOOK_AGAIN_S", 0.01)
    kafka, place = KafkaConnection(servers), OVERTAKEN
    owned, watch = _partition(servers, place), EndsWatch(kafka, 0.05)
    async with producer(kafka) as sending:
        for number in range(12):
            await sending.send_and_wait(topics.BILLING, b"%d" % number, partition=place)

    async def work(offset: int) -> None:
        credit = encode(Credit(id=f"e{offset}", org="org_1", amount_nano=5, reason="r"))
        await owned.work(topics.BILLING, [command_record(credit, place, offset=offset)])

    def differs() -> float | None:
        return WORKER.registry.get_sample_value("metering_ends_differ", {"partition": str(place)})

    await owned.open()
    ids = dict(owned.topic_ids)
    assert ids.keys() == {*topics.INPUTS, topics.JOURNAL, topics.STATE}

    async def units() -> None:
        for offset in range(1, 11):
            await work(offset)

    # Units that go on meanwhile are no difference.
    working = asyncio.create_task(units())
    while not working.done():
        assert await watch.look(place, ids) == []
    await working

    await _made_anew(kafka, topics.STATE)
    found = await watch.look(place, ids)
    assert found[0].startswith("metering.state.accounts has the id ") and ids[topics.STATE] in found[0]
    assert found[1].startswith("metering.state.accounts lost records: the state's next position is 1, ")
    # The next unit writes how far it is into the new topic: by the ends alone all would be well.
    await work(11)
    assert len(await watch.look(place, ids)) == 1

    await _made_anew(kafka, topics.BILLING)
    assert (await watch.look(place, ids))[-1] == "metering.billing ends at 0, but was posted up to 12"

    watch.opened(place, ids)
    assert differs() == 0
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        while differs() != 1:
            await asyncio.sleep(0.01)
    running.cancel()
    watch.closed(place)
    assert differs() is None
    await owned.close()
    # The state that is there now lacks every account that nothing happened to since: nobody starts on it.
    with pytest.raises(AnotherTopicError, match=r"metering\.state\.accounts has the id"):
        await _partition_that_accepts(servers, place, topics.BILLING)


async def _partition_that_accepts(servers: str, number: int, topic: str) -> None:
    """Open a partition whose operator has accepted the present topic of a name."""
    accepted = await topic_ids(KafkaConnection(servers), [topic])
    catalog = Catalog(rate_table(), Mock(), GatewayBook(), Followed())
    opened = Partition(
        *(KafkaConnection(servers), "metering", number, PARTITIONS, catalog, COMMAND_KEYS, asyncio.Lock()),
        accepted,
    )
    try:
        await opened.open()
    finally:
        await opened.close()
