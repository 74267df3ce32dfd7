"""Send on what a topic holds: the partitions that a consumer group assigns, each by its own protocol.

Owns: the records at hand of each partition, how a protocol's steps that concern Kafka are taken, and when it is turned.
Called by: `mail/mailer.py` for mails, `webhook/sender.py` for webhooks.
Next: `mail/protocol.py` and `webhook/protocol.py` say what a turn does.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, assert_never

from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import Gauge

from pipeline.connection import KafkaConnection
from pipeline.driving import drive
from pipeline.kafka.attempts import error_of
from pipeline.kafka.bounded import last_headers
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.reader import GroupReader
from pipeline.kafka.topic_ids import topic_ids
from pipeline.settings import Settings
from pipeline.steps import (
    NOTHING_ACCEPTED,
    Beginning,
    Commit,
    Fence,
    Idle,
    LastHeaders,
    Now,
    OutgoingRecord,
    OutgoingStep,
    Restore,
    Taken,
    TopicIds,
)

FETCH_BYTES = 1024 * 1024
STOP_LIMIT_S = 8.0
"""How long what is on its way is waited for when a partition is given up."""


class Turns(Protocol):
    """A protocol that sends on the records of one partition, a turn at a time."""

    @property
    def next_offset(self) -> int:
        """Everything below it is out of the topic for good."""

    @property
    def waiting(self) -> int:
        """How many of what was taken out wait for another try."""

    def take_over(self, accepted: Mapping[str, str] = ...) -> Generator[Any, Any, int]:
        """Become the one owner of the partition, and return the offset of the next record."""

    def turn(self, records: Sequence[OutgoingRecord]) -> Generator[Any, Any, Idle | None]:
        """Do what is next, given the records at hand; return Idle where there is nothing."""


class OutgoingPartition(ABC):
    """One partition of a topic on its way out."""

    def __init__(
        self,
        kafka: KafkaConnection,
        place: TopicPartition,
        transactional_id: str,
        turns: Turns,
        waiting: Gauge,
        accepted_topics: Mapping[str, str] = NOTHING_ACCEPTED,
    ) -> None:
        """Prepare; nothing is connected before `open`. `accepted_topics` are the setting's of that name."""
        self._kafka, self._place, self._turns, self._waiting = kafka, place, turns, waiting
        self._accepted_topics = accepted_topics
        self._log = FencedLog(kafka, transactional_id)
        self._records: deque[ConsumerRecord] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._stopping = False

    @abstractmethod
    async def take(self, step: Any) -> object:
        """Take a step of the protocol and return its answer: its own here, the others by `take_kafka_step`."""

    async def open(self) -> int:
        """Fence the previous owner and return the offset of the next record."""
        return await drive(self._turns.take_over(self._accepted_topics), self.take)

    @property
    def next_offset(self) -> int:
        """Everything below it is out of the topic for good."""
        return self._turns.next_offset

    @property
    def has_records(self) -> bool:
        """Whether records are in hand that are not out of the topic yet."""
        return bool(self._records)

    async def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records in, and return when each of them is out of the topic for good."""
        self._records.extend(records)
        self._changed.set()
        while self._records:
            self._taken.clear()
            await self._taken.wait()

    async def stop(self, task: asyncio.Task[None]) -> None:
        """Let what is in hand go out, then disconnect. `task` is the one that runs `run`."""
        self._stopping = True
        self._changed.set()
        await asyncio.wait([task], timeout=STOP_LIMIT_S)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        await self.close()

    async def close(self) -> None:
        """Disconnect. How many wait, the next owner shows."""
        self._waiting.remove(self._place.partition)
        await self._log.close()

    async def run(self) -> None:
        """Send until stopped. Raises where another owner has taken over, or Kafka is lost."""
        while not self._stopping:
            self._waiting.labels(self._place.partition).set(self._turns.waiting)
            idle = await drive(self._turns.turn(self._records), self.take)
            if idle is not None:
                due_ms = idle.until_ms
                await self._until_something_to_do(
                    None if due_ms is None else max(0.0, (due_ms - now_ms()) / 1000)
                )

    async def _until_something_to_do(self, wait_s: float | None) -> None:
        self._changed.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def take_kafka_step(self, step: OutgoingStep) -> object:
        """Take a step that concerns Kafka and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(place.topic, place.partition))
            case TopicIds(names):
                return step.answered(await topic_ids(self._kafka, names))
            case LastHeaders(place):
                return step.answered(await last_headers(self._kafka, TopicPartition(*place)))
            case Beginning(place):
                return step.answered(await _beginning(self._kafka, TopicPartition(*place)))
            case Commit():
                await self._log.commit(step.outputs)
            case Now():
                return step.answered(now_ms())
            case Taken(count):
                for _ in range(count):
                    self._records.popleft()
                self._taken.set()
            case _:
                assert_never(step)
        return None


class OutgoingRole:
    """Sends on what the partitions hold that the group assigns to this process, until cancelled."""

    def __init__(
        self, settings: Settings, name: str, topic: str, make: Callable[[int], OutgoingPartition]
    ) -> None:
        """Prepare; nothing is connected before `run`. The consumer group is the deployment's, with `name` after it."""
        self._topic, self._make = topic, make
        self._partitions: dict[int, tuple[OutgoingPartition, asyncio.Task[None]]] = {}
        self._reader = GroupReader(
            settings.kafka,
            group_of(settings.deployment, name),
            [topic],
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            interruptible=True,
            done=self._next_offsets,
        )
        self._reader.watch_as(name)

    async def run(self) -> None:
        """Read and send until cancelled. Raises what must end the process."""
        await self._reader.run()

    async def open(self, partition: int) -> Mapping[str, int]:
        """Take a partition over; see `kafka/reader.py`."""
        sending = self._make(partition)
        try:
            offset = await sending.open()
        except BaseException:
            await sending.close()
            raise
        task = asyncio.create_task(sending.run())
        task.add_done_callback(lambda ended: self._ended(partition, ended))
        self._partitions[partition] = sending, task
        return {self._topic: offset}

    async def process(
        self,
        topic: str,  # noqa: ARG002 - there is only one
        partition: int,
        records: Sequence[ConsumerRecord],
    ) -> None:
        """Hand records to the partition, and return when each of them is out of the topic for good."""
        await self._partitions[partition][0].add(records)

    async def close(self, partition: int) -> None:
        """Let what the partition has in hand go out, then give it up."""
        if partition not in self._partitions:
            return
        sending, task = self._partitions.pop(partition)
        await sending.stop(task)

    def _next_offsets(self, partition: int) -> Mapping[str, int]:
        """Return the offset up to which a partition's records are dealt with, for the group."""
        if partition not in self._partitions:
            return {}
        sending, _ = self._partitions[partition]
        if sending.has_records:
            return {self._topic: sending.next_offset}
        return {self._topic: self._reader.past_markers(partition, self._topic, sending.next_offset)}

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        if (error := error_of(task)) is not None:
            self._reader.lose(partition, error)

    @property
    def problem(self) -> str | None:
        """What keeps the topic from being read, None where nothing does. A receiver that is down does not."""
        return self._reader.problem


def group_of(deployment: str, name: str) -> str:
    """Return the consumer group of a deployment's role."""
    return f"{deployment}-{name}"


def now_ms() -> int:
    """Return the time by this machine's clock."""
    return time.time_ns() // 1_000_000


async def _beginning(kafka: KafkaConnection, where: TopicPartition) -> int:
    """Return the first offset that a partition still has."""
    async with started_consumer(kafka) as consumer:
        offsets: dict[TopicPartition, int] = await consumer.beginning_offsets([where])
        return offsets[where]
