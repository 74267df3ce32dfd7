"""Move the batches of one partition from a group's consumer to the handler, from its opening until it is let go.

Owns: one partition's turn of fetching and doing, and where it goes on after a rebalance.
Called by: `kafka/reader.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

REVOKE_LIMIT_S = 45.0
"""More than a commit may take (`kafka/fenced.py`), and less than the group waits for its members."""


class Handler(Protocol):
    """What is done with a partition while it is ours."""

    async def open(self, partition: int) -> Mapping[str, int]:
        """Become the only owner and return the offset to read each topic from; 0 where absent."""

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        """Do a batch, durably. An exception is fatal for the process."""

    async def close(self, partition: int) -> None:
        """Let go of a partition that is no longer ours; it may not have been open yet, or be parked."""


class ParkingHandler(Handler, Protocol):
    """One that can keep a partition open through a rebalance, without doing anything with it meanwhile."""

    async def park(self, partition: int) -> None:
        """Return once nothing of the partition is under way; from then on nothing is written for it."""

    def resume(self, partition: int) -> None:
        """Go on with a partition that was parked: it is still ours, and nobody else had it meanwhile."""


class Reading(Protocol):
    """What a pump needs of the group's reader."""

    interruptible: bool

    @property
    def takes_together(self) -> bool:
        """Whether all partitions are taken by one task: then a pump only opens."""

    async def fetch(
        self, places: Sequence[TopicPartition], /
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next batches of some places, none after a while."""

    async def positions(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset that is fetched next of each place."""

    async def check_extent(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Raise where a log does not reach from the offset that is read next."""

    async def guard(self, work: Awaitable[None]) -> None:
        """Do a part of the work; whatever ends it ends the reader."""

    def note_opened(self, partition: int) -> None:
        """Note that a partition is open now."""

    def note_fetched(self, partition: int, positions: Mapping[TopicPartition, int]) -> bool:
        """Note up to which offset a partition's topics are fetched, and return whether that is further than before."""

    def report_done(self, partition: int) -> None:
        """Have it noted that all of a partition that is fetched is done."""

    def done(self, place: TopicPartition) -> int:
        """Return the offset below which everything of an open place is done."""


class Pump:
    """Opens one partition, then moves its batches from the consumer to the handler."""

    def __init__(
        self,
        reader: Reading,
        consumer: AIOKafkaConsumer,
        partition: int,
        places: Sequence[TopicPartition],
        handler: Handler,
    ) -> None:
        """Begin to open the partition. `places` are its topics' partitions, which are paused."""
        self._reader, self._consumer, self._handler = reader, consumer, handler
        self._partition, self.places = partition, places
        self.is_open = False
        self.assigned_at_s = time.monotonic()
        self._fetching = False
        self._stopping = False
        self._task = asyncio.create_task(reader.guard(self._run()))

    async def _run(self) -> None:
        await self._open()
        await self._move()

    async def _move(self) -> None:
        while not self._stopping and not self._reader.takes_together:
            self._fetching = True
            batches = await self._reader.fetch(self.places)
            self._fetching = False
            if not self._reader.note_fetched(self._partition, await self._reader.positions(self.places)):
                continue
            # What is fetched and not taken would hold up every other partition of the same broker.
            self._consumer.pause(*self.places)
            for place, records in batches.items():
                if self._stopping:
                    return
                await self._handler.process(place.topic, place.partition, records)
            self._reader.report_done(self._partition)
            self._consumer.resume(*self.places)

    async def _open(self) -> None:
        state = await self._handler.open(self._partition)
        offsets = {place: state.get(place.topic, 0) for place in self.places}
        await self._reader.check_extent(offsets)
        for place, offset in offsets.items():
            self._consumer.seek(place, offset)
        self._reader.note_fetched(self._partition, offsets)
        self.is_open = True
        self._reader.note_opened(self._partition)
        if not self._reader.takes_together:
            self._consumer.resume(*self.places)
        self._reader.report_done(self._partition)

    async def halt(self) -> None:
        """Stop after the batch in hand. Opening and fetching are cancelled: both can be done again."""
        self._stopping = True
        if not self.is_open or self._fetching or self._reader.interruptible:
            self._task.cancel()
        _, pending = await asyncio.wait([self._task], timeout=REVOKE_LIMIT_S)
        if pending:
            raise TimeoutError("a unit of work did not end before its partition had to be given up")

    async def stop(self) -> None:
        """Stop after the batch in hand and let the partition go."""
        await self.halt()
        await self._handler.close(self._partition)

    def go_on(self, places: Sequence[TopicPartition]) -> None:
        """Go on after `halt` where all is done, in a new assignment that has the partition again: it stays open.

        Of a batch that was cut short some may come again, which the handler knows by its offsets.
        """
        self.places, self._stopping, self._fetching = places, False, False
        offsets = {place: self._reader.done(place) for place in places}
        for place, offset in offsets.items():
            self._consumer.seek(place, offset)
        self._reader.note_fetched(self._partition, offsets)
        self._consumer.resume(*places)
        self._task = asyncio.create_task(self._reader.guard(self._move()))
