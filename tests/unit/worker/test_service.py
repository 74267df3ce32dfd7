"""The worker's reader: units of one partition begin some time after each other, those of others do not wait."""

from __future__ import annotations

import asyncio
import itertools
import time
from unittest.mock import Mock

from pipeline import topics
from pipeline.settings import Settings
from pipeline.worker.service import UNIT_EVERY_S, PartitionReader, PendingUnit


async def test_a_unit_begins_no_sooner_after_the_last_of_its_partition_than_it_may() -> None:
    began: dict[int, list[float]] = {}

    class AtOnce:
        """An agent's channel whose units are committed as soon as they are in it."""

        async def put(self, unit: PendingUnit, /) -> None:
            began.setdefault(id(unit.partition), []).append(time.monotonic())
            unit.committed.set_result(None)

    reader = PartitionReader(
        Settings(kafka_url="kafka://localhost:1"), dict.fromkeys(topics.INPUTS, AtOnce())
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
