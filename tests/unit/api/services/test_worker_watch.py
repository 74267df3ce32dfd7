"""Whether somebody answers for every partition: who is asked how often, and what is known of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.api.services import worker_watch
from pipeline.api.services.worker_watch import AT_ONCE, WorkerWatch
from pipeline.kafka.commands import UnavailableError

MANY = 256


class Owners:
    """Answer for the partitions that have an owner, and count who was asked."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.asked: Counter[int] = Counter()
        self.order: list[int] = []

    async def ask(self, partition: int) -> None:
        self.asked[partition] += 1
        self.order.append(partition)
        await asyncio.sleep(0)
        if partition in self.away:
            raise UnavailableError(f"no answer for partition {partition}")


@asynccontextmanager
async def _watching(owners: Owners, partitions: int) -> AsyncIterator[WorkerWatch]:
    watch = WorkerWatch(partitions, owners.ask)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        yield watch
    running.cancel()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN_S", "FRESH_S", "AGAIN_S"):
        monkeypatch.setattr(worker_watch, name, 0.0)


async def test_all_are_asked_once_and_then_one_at_a_time_in_turn() -> None:
    owners = Owners()
    async with _watching(owners, MANY) as watch:
        assert await watch.problem() is None
        assert set(owners.asked.values()) == {1} and len(owners.asked) == MANY
        while len(owners.order) < 2 * MANY:
            await asyncio.sleep(0)
        assert sorted(owners.order[MANY : 2 * MANY]) == list(range(MANY))


async def test_asking_it_asks_nobody() -> None:
    owners = Owners()
    async with _watching(owners, 4) as watch:
        await watch.problem()
        before = len(owners.order)
        for _ in range(1000):
            assert await watch.problem() is None
        assert len(owners.order) - before <= 4


async def test_neighbours_that_went_together_are_noticed_soon() -> None:
    """One of three workers is gone, and with it a third of the partitions: within four questions."""
    owners = Owners()
    async with _watching(owners, MANY) as watch:
        await watch.problem()
        for first in (0, 85, 170):
            owners.away = set(range(first, first + 85))
            before = len(owners.order)
            while await watch.problem() is None:
                await asyncio.sleep(0)
            assert len(owners.order) - before <= 4 + AT_ONCE
            owners.away = set()
            while await watch.problem() is not None:
                await asyncio.sleep(0)


async def test_those_that_did_not_answer_are_named_and_asked_until_they_do() -> None:
    owners = Owners()
    owners.away = {1, 3}
    async with _watching(owners, 4) as watch:
        assert await watch.problem() == "no answer for partition 1, 3"
        owners.away = {3}
        while await watch.problem() != "no answer for partition 3":
            await asyncio.sleep(0)
        owners.away = set()
        while await watch.problem() is not None:
            await asyncio.sleep(0)


async def test_a_partition_whose_owner_dies_later_is_noticed() -> None:
    owners = Owners()
    async with _watching(owners, 4) as watch:
        assert await watch.problem() is None
        owners.away = {2}
        while await watch.problem() is None:
            await asyncio.sleep(0)
        assert await watch.problem() == "no answer for partition 2"
