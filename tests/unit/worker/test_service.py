"""The worker's reader: when the units of a partition begin, and what counts as standing still."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiokafka import TopicPartition
from pydantic import SecretStr

from pipeline import topics
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection
from pipeline.gateway_book import GatewayBook
from pipeline.settings import Settings
from pipeline.worker.partition import Catalog, Partition
from pipeline.worker.service import UNIT_EVERY_S, PartitionReader, PendingUnit, StandstillError
from pipeline.worker.standstill import Activity
from tests.support.builders import COMMAND_KEY, COMMAND_KEYS

PLACE = TopicPartition(topics.REQUESTS, 0)


async def test_a_unit_begins_no_sooner_after_the_last_of_its_partition_than_it_may() -> None:
    began: dict[int, list[float]] = {}

    class AtOnce:
        """An agent's channel whose units are committed as soon as they are in it."""

        async def put(self, unit: PendingUnit, /) -> None:
            began.setdefault(id(unit.partition), []).append(time.monotonic())
            unit.committed.set_result(None)

    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)),
        dict.fromkeys(topics.INPUTS, AtOnce()),
    )
    reader._owned = {0: Mock(), 1: Mock()}

    async def work(partition: int) -> None:
        called, returned = [], []
        for _ in range(3):
            called.append(time.monotonic())
            await reader.process(topics.REQUESTS, partition, [])
            returned.append(time.monotonic())
        # A unit begins after its call and before its return, so this holds however long anything took between.
        assert all(end - begin >= UNIT_EVERY_S for begin, end in zip(called, returned[1:], strict=False))

    await asyncio.gather(work(0), work(1))
    first, second = began.values()
    # The second partition began while the first one was still waiting for its next unit.
    assert second[0] < first[1]


@pytest.mark.parametrize(
    ("end", "in_hand", "stands_still"),
    [(10, False, False), (10, True, True), (11, False, True)],
    ids=["all of it is fetched and done", "a batch is in hand", "there is more to fetch"],
)
def test_input_waits_where_a_batch_is_in_hand_or_more_can_be_fetched(
    end: int, in_hand: bool, stands_still: bool
) -> None:
    """The last record is at 7, say: at 8 and 9 are an aborted one and its marker."""
    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)), {}
    )
    reader._reader = Mock()
    reader._reader.fetched.return_value = {topics.REQUESTS: 10}
    if in_hand:
        reader._in_hand.add(PLACE)
    owned = {0: Mock(activity=Activity(0.0))}
    reader._check_progress(owned, {PLACE: end}, now=0.0)
    if stands_still:
        with pytest.raises(
            StandstillError, match=f"metering.requests/0 ends at {end}, it is fetched up to 10"
        ):
            reader._check_progress(owned, {PLACE: end}, now=11.0)
    else:
        reader._check_progress(owned, {PLACE: end}, now=11.0)


PARTITIONS, UNIT_S = 84, 0.15


@pytest.mark.parametrize("stops_after", [PARTITIONS, 30], ids=["all go on", "the worker hangs after 30"])
async def test_batches_that_wait_for_an_agent_move_with_the_worker(stops_after: int) -> None:
    """All 84 partitions have a batch at once, and units take 0.15 s, one after the other: 12.6 s."""
    never = asyncio.Event()

    class Full:
        """An agent's channel without room: whoever puts something into it waits."""

        async def put(self, unit: PendingUnit, /) -> None:
            await never.wait()
            unit.committed.cancel()

    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)),
        dict.fromkeys(topics.INPUTS, Full()),
    )
    reader._reader = Mock()
    reader._reader.fetched.return_value = {topics.REQUESTS: 10}
    activities = [Activity(0.0) for _ in range(PARTITIONS)]
    owned: dict[int, Any] = {p: Mock(activity=activity) for p, activity in enumerate(activities)}
    reader._owned = owned
    waiting = [asyncio.create_task(reader.process(topics.REQUESTS, p, [])) for p in owned]
    await asyncio.sleep(0)
    ends = {TopicPartition(topics.REQUESTS, p): 10 for p in owned}
    try:
        reader._check_progress(owned, ends, now=0.0)
        for done in range(stops_after):
            activities[done].moved((done + 1) * UNIT_S)
            reader._in_hand.discard(TopicPartition(topics.REQUESTS, done))
            reader._check_progress(owned, ends, now=(done + 1) * UNIT_S)
        if stops_after < PARTITIONS:
            reader._check_progress(owned, ends, now=stops_after * UNIT_S + 9.9)
            with pytest.raises(StandstillError):
                reader._check_progress(owned, ends, now=stops_after * UNIT_S + 10.1)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def test_a_broker_that_was_away_is_no_standstill_when_it_is_back() -> None:
    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)), {}
    )
    reader._reader = Mock()
    reader._reader.fetched.return_value = {topics.REQUESTS: 10}
    reader._in_hand.add(PLACE)
    owned: dict[int, Any] = {0: Mock(activity=Activity(0.0))}
    reader._check_progress(owned, {PLACE: 12}, now=0.0)
    reader._contact.failed()
    reader._check_progress(owned, {PLACE: 0}, now=17.0)
    reader._contact.answered(17.0)
    reader._check_progress(owned, {PLACE: 12}, now=17.0)
    with pytest.raises(StandstillError):
        reader._check_progress(owned, {PLACE: 12}, now=27.1)


async def test_markers_that_were_read_past_are_no_records_that_were_lost() -> None:
    """A topic that is quiet for longer than it is kept begins after its last marker, and nothing is missing."""
    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)), {}
    )
    kafka = KafkaConnection("localhost:1")
    catalog = Catalog(RateTable(), PromoTable(), GatewayBook(), Mock())
    owned = Partition(kafka, "metering", 0, 1, catalog, COMMAND_KEYS, asyncio.Lock())
    owned._state.meta.offsets = {topics.MOVED: 7, topics.REQUESTS: 30}
    reader._owned = {0: owned}
    reader._reader = Mock()
    reader._reader.fetched.return_value = {topics.MOVED: 8, topics.REQUESTS: 30, topics.BILLING: 0}
    assert reader._done(0) == {topics.MOVED: 8, topics.REQUESTS: 30, topics.BILLING: 0}
    assert owned._state.meta.offsets == {topics.MOVED: 8, topics.REQUESTS: 30}


@pytest.mark.parametrize("has_begun", [False, True], ids=["before an agent has it", "under way"])
async def test_a_batch_that_is_broken_off_is_not_done_any_more_and_harms_no_agent(*, has_begun: bool) -> None:
    under_way = asyncio.Event()
    ended: list[str] = []

    class Stuck:
        """A partition whose unit waits for a broker that does not answer."""

        activity = Mock()

        async def work(self, _topic: str, _records: object) -> None:
            under_way.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append("broken off")

    units: asyncio.Queue[PendingUnit] = asyncio.Queue()
    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)),
        dict.fromkeys(topics.INPUTS, units),
    )
    reader._owned = {0: cast(Any, Stuck())}
    async with asyncio.timeout(10):
        processing = asyncio.create_task(reader.process(topics.REQUESTS, 0, []))
        unit = await units.get()
        agent = asyncio.create_task(unit.carry_out()) if has_begun else None
        if agent is not None:
            await under_way.wait()
        processing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await processing
        await (agent or unit.carry_out())
    assert ended == (["broken off"] if has_begun else [])
    assert reader._in_hand == set()
