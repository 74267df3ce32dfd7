"""Move the batches of one partition from a group's consumer to the handler, from its opening until it is let go.

Owns: one partition's turn of fetching and doing, where it goes on after a rebalance, and that it is opened again where Kafka
was lost. Called by: `kafka/reader.py`.

When a broker dies, what was asked of it may have been done or not. To open a partition again tells, as it does at a start: the
handler lets all go that it holds in memory, fences whatever is under way, and restores what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ProducerFenced

from pipeline.kafka.attempts import ClientCancelledError, described, is_cancelled, may_begin_anew

log = logging.getLogger(__name__)

REVOKE_LIMIT_S = 15.0
"""So long the batch in hand may take to end when its partition is given up. One that takes longer waits for a broker that does
not answer, and the group's other members wait for this one meanwhile."""
BREAK_OFF_LIMIT_S = 10.0
AGAIN_AFTER_S = 2.0
"""Before a partition is opened again: some heartbeats. Whoever was away for so long that the group has given his partitions to
others hears of that first, and fences nobody."""
FENCED_AFTER_S = 15.0
"""As above, of one who was fenced: so long after its last heartbeat, a member knows that its partitions are another's. If it
still has this one then, it was fenced by the broker, whose transactions have a time limit."""
LOST_LIMIT_S = 300.0
"""A partition of which nothing was done for so long, however often it was opened, ends the process."""


class Handler(Protocol):
    """What is done with a partition while it is ours."""

    async def open(self, partition: int) -> Mapping[str, int]:
        """Become the only owner and return the offset to read each topic from; 0 where absent."""

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord], /) -> None:
        """Do a batch, durably. An exception is fatal for the process, but one by which Kafka was lost, or the partition was fenced."""

    async def close(self, partition: int) -> None:
        """Let go of a partition, and of all that is known of it; it may not have been open yet, or be parked."""


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

    def note_opening(self, partition: int) -> None:
        """Note that a partition is being opened."""

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
        self.assigned_at_s = self._well_at_s = time.monotonic()
        self._fetching = self._stopping = self._letting_go = False
        reader.note_opening(partition)
        self._task = asyncio.create_task(reader.guard(self._run()))

    async def _run(self) -> None:
        """Open the partition if it is not, and move its batches; begin anew each time Kafka was lost."""
        while not self._stopping:
            try:
                if not self.is_open:
                    await self._open()
                await self._move()
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                await self._let_go(ClientCancelledError())
            except Exception as error:
                if not may_begin_anew(error):
                    raise
                await self._let_go(error)
            else:
                return

    async def _let_go(self, error: BaseException) -> None:
        """Have the handler forget the partition, and wait a moment. Raises the error where that has not helped for too long."""
        self._note_open_until_now()
        self.is_open, self._fetching, self._letting_go = False, False, True
        self._consumer.pause(*self.places)
        self._reader.note_opening(self._partition)
        self.assigned_at_s = time.monotonic()
        await self._handler.close(self._partition)
        self._letting_go = False
        if time.monotonic() - self._well_at_s > LOST_LIMIT_S:
            raise error
        if self._stopping:
            return
        log.warning("partition %d is opened again, as Kafka was lost: %s", self._partition, described(error))
        await asyncio.sleep(FENCED_AFTER_S if isinstance(error, ProducerFenced) else AGAIN_AFTER_S)

    def _note_open_until_now(self) -> None:
        """Have the time without anything done begin now, where what is done of an open partition is not seen here."""
        if self.is_open and self._reader.takes_together:
            self._well_at_s = time.monotonic()

    def lose(self, error: BaseException) -> None:
        """Open the partition again, as Kafka was lost by what its handler does beside the batches.

        No batch may be in hand that cannot be interrupted.
        """
        if self._stopping or self._letting_go:
            return
        self._note_open_until_now()
        self.is_open, self._letting_go = False, True
        former = self._task
        former.cancel()

        async def begin_anew() -> None:
            await asyncio.wait([former])
            await self._let_go(error)
            await self._run()

        self._task = asyncio.create_task(self._reader.guard(begin_anew()))

    async def _move(self) -> None:
        while not self._stopping and not self._reader.takes_together:
            self._fetching = True
            batches = await self._reader.fetch(self.places)
            self._fetching = False
            if not self._reader.note_fetched(self._partition, await self._reader.positions(self.places)):
                # Nothing was to do.
                self._well_at_s = time.monotonic()
                continue
            # What is fetched and not taken would hold up every other partition of the same broker.
            self._consumer.pause(*self.places)
            for place, records in batches.items():
                if self._stopping:
                    return
                await self._handler.process(place.topic, place.partition, records)
            self._well_at_s = time.monotonic()
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
        self._well_at_s = time.monotonic()
        self._reader.note_opened(self._partition)
        if not self._reader.takes_together:
            self._consumer.resume(*self.places)
        self._reader.report_done(self._partition)

    async def halt(self) -> bool:
        """Stop after the batch in hand, and return whether the partition is still open.

        Opening and fetching are cancelled: both can be done again. So is a batch that does not end in time: whether it was
        done, opening the partition again tells, and until it is closed it is of no more use. Raises TimeoutError where the
        handler does not let itself be cancelled.
        """
        self._stopping = True
        if not self.is_open or self._fetching or self._reader.interruptible:
            self._task.cancel()
        _, pending = await asyncio.wait([self._task], timeout=REVOKE_LIMIT_S)
        if pending:
            log.warning(
                "partition %d is given up with a batch in hand, which has not ended for %.0f s",
                self._partition,
                REVOKE_LIMIT_S,
            )
            self.is_open = False
            self._task.cancel()
            _, pending = await asyncio.wait([self._task], timeout=BREAK_OFF_LIMIT_S)
            if pending:
                raise TimeoutError(
                    "a unit of work cannot be broken off, and its partition has to be given up"
                )
        return self.is_open

    async def stop(self) -> None:
        """Stop after the batch in hand, or break it off, and let the partition go."""
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
        self._task = asyncio.create_task(self._reader.guard(self._run()))
