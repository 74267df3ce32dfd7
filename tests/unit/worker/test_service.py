"""The worker's reader: when the units of a partition begin, and what counts as standing still."""

from __future__ import annotations

import asyncio
import itertools
import time
from unittest.mock import Mock

import pytest
from aiokafka import TopicPartition
from pydantic import SecretStr

from pipeline import topics
from pipeline.settings import Settings
from pipeline.worker import service
from pipeline.worker.service import UNIT_EVERY_S, PartitionReader, PendingUnit, StandstillError
from pipeline.worker.standstill import Activity
from tests.support.builders import COMMAND_KEY

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
        for _ in range(3):
            await reader.process(topics.REQUESTS, partition, [])

    await asyncio.gather(work(0), work(1))
    first, second = began.values()
    for times in (first, second):
        # Each is noted a moment after the call it belongs to.
        assert all(b - a > 0.9 * UNIT_EVERY_S for a, b in itertools.pairwise(times))
    # The second partition began while the first one was still waiting for its next unit.
    assert second[0] < first[1]


@pytest.mark.parametrize(
    ("end", "in_hand", "stands_still"),
    [(10, False, False), (10, True, True), (11, False, True)],
    ids=["all of it is fetched and done", "a batch is in hand", "there is more to fetch"],
)
def test_input_waits_where_a_batch_is_in_hand_or_more_can_be_fetched(
    end: int, in_hand: bool, stands_still: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last record is at 7, say: at 8 and 9 are an aborted one and its marker."""
    monkeypatch.setattr(service, "STANDSTILL_LIMIT_S", -1.0)
    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1", command_key=SecretStr(COMMAND_KEY)), {}
    )
    reader._reader = Mock()
    reader._reader.fetched.return_value = {topics.REQUESTS: 10}
    if in_hand:
        reader._in_hand.add(PLACE)
    owned = {0: Mock(activity=Activity(time.monotonic()))}
    if stands_still:
        with pytest.raises(
            StandstillError, match=f"metering.requests/0 ends at {end}, it is fetched up to 10"
        ):
            reader._check_progress(owned, {PLACE: end})
    else:
        reader._check_progress(owned, {PLACE: end})
