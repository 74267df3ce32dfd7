"""Follow topics from their beginning, for good: what a process keeps in memory of a compacted topic.

Owns: reading to the end before `start` returns, staying at the end after, and knowing how fresh it is.
Called by: the worker (catalog) and the server (catalog, keys, replies).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.connection import KafkaConnection
from pipeline.kafka import clients

log = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
START_LIMIT_S = 60.0


def is_cancelled() -> bool:
    """Whether somebody cancelled this task; aiokafka lets cancellations of its own escape when a broker goes."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class StaleError(Exception):
    """A follower has not been able to confirm that it is at the end of its topics."""


class Follower:
    """Hands every record of some topics to `take`, old ones first, then new ones as they come."""

    def __init__(
        self,
        kafka: KafkaConnection,
        topics: Sequence[str],
        take: Callable[[ConsumerRecord], None],
        *,
        from_end: bool = False,
    ) -> None:
        """Prepare; `from_end` skips what is there already."""
        self._topics = tuple(topics)
        self._take = take
        self._from_end = from_end
        self._kafka = kafka
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._fresh_at = 0.0
        self._places: list[TopicPartition] = []

    async def start(self) -> None:
        """Read everything there is, then go on in the background. Raises TimeoutError or a KafkaError."""
        consumer = self._consumer = clients.consumer(
            self._kafka,
            *self._topics,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=16 * 1024 * 1024,
        )
        await consumer.start()
        async with asyncio.timeout(START_LIMIT_S):
            while {place.topic for place in consumer.assignment()} != set(self._topics):
                await asyncio.sleep(0.1)
            self._places = sorted(consumer.assignment())
            if self._from_end:
                await consumer.seek_to_end(*self._places)
            else:
                await consumer.seek_to_beginning(*self._places)
            ends = await consumer.end_offsets(self._places)
            while not await self._is_past(consumer, ends):
                await self._take_some(consumer)
        self._fresh_at = time.monotonic()
        self._task = asyncio.create_task(self._follow(consumer))

    def check_fresh(self, limit_s: float) -> None:
        """Raise StaleError where the end of the topics was last confirmed longer ago than `limit_s`."""
        age_s = time.monotonic() - self._fresh_at
        if age_s > limit_s:
            raise StaleError(f"{', '.join(self._topics)} was last read to its end {age_s:.0f} s ago")

    async def reached(self, topic: str, offset: int, limit_s: float = 10.0) -> None:
        """Return once partition 0 of a topic has been read up to an offset, or to its end if that is less.

        Who asks may be mistaken about the offset, and must not be able to stop whoever waits here.
        Raises TimeoutError or a KafkaError.
        """
        assert self._consumer is not None
        place = TopicPartition(topic, 0)
        async with asyncio.timeout(limit_s):
            if await self._consumer.position(place) >= offset:
                return
            wanted = min(offset, (await self._consumer.end_offsets([place]))[place])
            while await self._consumer.position(place) < wanted:
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop following and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)
        if self._consumer is not None:
            await self._consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        checked_at = time.monotonic()
        while True:
            try:
                await self._take_some(consumer)
                if time.monotonic() - checked_at > CHECK_EVERY_S:
                    checked_at = time.monotonic()
                    await self._confirm(consumer, checked_at)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                log.warning("following %s goes on after a lost connection", ", ".join(self._topics))
            except Exception:
                log.exception("following %s failed and goes on", ", ".join(self._topics))
                await asyncio.sleep(1)

    async def _confirm(self, consumer: AIOKafkaConsumer, asked_at: float) -> None:
        """Note when the end was confirmed; a broker that is away only makes what is known older."""
        try:
            ends = await consumer.end_offsets(self._places)
        except (KafkaError, TimeoutError):
            log.warning("the end of %s cannot be confirmed: the broker does not answer", self._topics)
            return
        if await self._is_past(consumer, ends):
            self._fresh_at = asked_at

    async def _take_some(self, consumer: AIOKafkaConsumer) -> None:
        batches = await consumer.getmany(timeout_ms=500)
        for records in batches.values():
            for record in records:
                self._take(record)

    async def _is_past(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        for place, end in ends.items():
            if await consumer.position(place) < end:
                return False
        return True
