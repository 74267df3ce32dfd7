"""One partition's pump: it stops between batches, and goes on where all is done, with nothing left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import TopicPartition

from pipeline.kafka.pump import Pump

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class Log:
    """Two topics' partitions with four records each, as a consumer and a group's reader show them."""

    interruptible = takes_together = False

    def __init__(self) -> None:
        self.at = {A: 0, B: 0}
        self.done_offsets: dict[TopicPartition, int] = {}
        self.noted: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.opened = 0

    def pause(self, *places: TopicPartition) -> None:
        self.paused |= set(places)

    def resume(self, *places: TopicPartition) -> None:
        self.paused -= set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.at[place] = offset

    async def fetch(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0)
        found: dict[TopicPartition, Any] = {}
        for place in places:
            if place not in self.paused and self.at[place] < 4:
                found[place] = [SimpleNamespace(offset=self.at[place])]
                self.at[place] += 1
        return found

    async def positions(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.at[place] for place in places}

    async def check_extent(self, offsets: Mapping[TopicPartition, int]) -> None: ...

    async def guard(self, work: Awaitable[None]) -> None:
        await work

    def note_opened(self, _partition: int) -> None:
        self.opened += 1

    def note_fetched(self, _partition: int, positions: Mapping[TopicPartition, int]) -> bool:
        before, self.noted = self.noted, dict(positions)
        return before != self.noted

    def report_done(self, _partition: int) -> None:
        self.done_offsets = dict(self.noted)

    def done(self, place: TopicPartition) -> int:
        return self.done_offsets[place]


class Doing:
    """Does each batch when it is let, and notes topic and offset."""

    def __init__(self) -> None:
        self.under_way: asyncio.Queue[str] = asyncio.Queue()
        self.may: asyncio.Semaphore = asyncio.Semaphore(0)
        self.seen: list[tuple[str, int]] = []
        self.closed = 0

    async def open(self, _partition: int) -> Mapping[str, int]:
        return {"a": 1}

    async def process(self, topic: str, _partition: int, records: Sequence[Any], /) -> None:
        await self.under_way.put(topic)
        await self.may.acquire()
        self.seen += [(topic, record.offset) for record in records]

    async def close(self, _partition: int) -> None:
        self.closed += 1


async def test_it_goes_on_where_all_is_done_though_a_batch_was_left_between_two_topics() -> None:
    log, doing = Log(), Doing()
    log.pause(A, B)
    pump = Pump(cast(Any, log), cast(Any, log), 0, [A, B], doing)
    async with asyncio.timeout(10):
        assert await doing.under_way.get() == "a"
        halting = asyncio.create_task(pump.halt())
        await asyncio.sleep(0)
        doing.may.release()  # the batch in hand is finished, that of the other topic is not begun
        await halting
        assert doing.seen == [("a", 1)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert doing.seen == [("a", 1)], "nothing is done while it is halted"
        # The new assignment knows nothing of offsets or pauses.
        log.at, log.paused = {A: 99, B: 99}, {A, B}
        pump.go_on([A, B])
        for _ in range(10):
            doing.may.release()
        while len(set(doing.seen)) < 7:
            await asyncio.sleep(0)
        await pump.stop()
    assert set(doing.seen) == {("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("b", 3)}
    assert (log.opened, doing.closed) == (1, 1)
