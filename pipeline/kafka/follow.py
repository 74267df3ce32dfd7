"""Follow topics for good: what a process keeps in memory of a compacted topic is fed from here.

Owns: reading everything there is and then what comes, starting over where it was after a lost connection,
tombstones and bad records, and how fresh what was read is.
Called by: the worker (rates, promo codes), the server (rates, keys, orders), the gateway library (verdicts,
keys), and `kafka/commands.py` (replies).

A compacted topic holds at least the newest record of each key, so reading it from the beginning gives the
newest of everything. A record without a value (a tombstone) says that its key is deleted. A record that cannot
be understood is logged and counted, and concerns nobody but itself: its neighbours are taken all the same. One of a
newer format than is known here is good, only not for this release: to go on without it would be to go on with what it
replaced, a former rate or balance. So nothing after it is taken.

How fresh it is, the broker says: silence on a topic may mean that nothing happens or that nothing arrives. So
the broker is asked for the ends of the topics again and again, and what counts is the last time that everything
up to those ends had been taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from pipeline.connection import KafkaConnection, KafkaSettingsError
from pipeline.formats import NewerFormatError
from pipeline.kafka import clients
from pipeline.kafka.attempts import attempt, described, may_begin_anew, within
from pipeline.kafka.refused import KafkaAwayError
from pipeline.topics import OWNER_KEY

log = logging.getLogger(__name__)

CONFIRM_EVERY_S = 5.0
CONNECT_LIMIT_S = 15.0
CONFIRM_LIMIT_S = 5.0
REQUEST_MS_MAX = 5_000
"""Within `CONNECT_LIMIT_S` there is time for the next broker where one hangs."""
REACHED_LIMIT_S = 30.0
"""Longer than a broker that hangs leads a topic until another one takes over."""
PROGRESS_LIMIT_S = 60.0
"""How long `start` goes on while nothing new arrives. A topic that is large may take longer to read than that."""
SILENCE_LIMIT_S = 20.0
"""After so long without being at the broker's end, a new consumer is tried."""
BACKOFF_S = 0.5
STOP_LIMIT_S = 2.0
RECORDS_A_TURN = 500
"""So many records are taken before others have their turn: reading a large topic must not hold them up."""
LOOK_AGAIN_S = 0.02
LOG_BAD_EVERY_S = 60.0


class StaleError(Exception):
    """The follower has not been able to confirm for too long that it has read its topics to the end."""


class SilentTopicError(Exception):
    """The topics do not exist, or their ends were not reached although the broker answers."""


def _ignore(_key: bytes) -> None:
    """Do nothing for a deleted key."""


@dataclass(frozen=True)
class Subscription:
    """A topic to follow and where its records go: `put` takes key and value, `delete` the key of a tombstone.

    They may raise anything for a record that they cannot understand, and it is passed over, but NewerFormatError
    stops the follower.
    """

    topic: str
    put: Callable[[bytes, bytes], None]
    delete: Callable[[bytes], None] = _ignore


def _place(record: ConsumerRecord) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


class TopicFollower:
    """Hands the committed records of some topics on, old ones first, then new ones as they come."""

    def __init__(
        self,
        kafka: KafkaConnection,
        subscriptions: Sequence[Subscription],
        *,
        start_at: Mapping[TopicPartition, int] | None = None,
        from_end: bool = False,
        confirm_every_s: float = CONFIRM_EVERY_S,
        confirmed: Callable[[int], None] = lambda _at_ms: None,
        count_bad: Callable[[str], None] = lambda _topic: None,
        **options: Any,
    ) -> None:
        """Prepare; `start` or `run` connects.

        Where a snapshot of what was read is there, `start_at` holds its next offset of each partition; it must
        be younger than the topic's delete.retention.ms, or deletions since may be missed. `from_end` skips what
        is there already. `confirmed` is told the wall-clock time in milliseconds as of which everything is
        taken, `count_bad` the topic of each record that cannot be understood; `options` are aiokafka's.
        """
        self._kafka, self._options = kafka, options
        self._subscriptions = {each.topic: each for each in subscriptions}
        self._names = ", ".join(self._subscriptions)
        self._next = dict(start_at or {})
        self._from_end = from_end
        self._confirm_every_s, self._confirmed, self._count_bad = confirm_every_s, confirmed, count_bad
        self._consumer: AIOKafkaConsumer | None = None
        self._taking = False
        self._task: asyncio.Task[None] | None = None
        self._starting = False
        self._fresh_at_s = float("-inf")
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once everything that was there has been taken."""
        self._bad_logged_s: dict[str, float] = {}
        self.bad_records = 0
        self.records = 0

    @property
    def problem(self) -> str | None:
        """What keeps it from following, None where nothing does."""
        return described(self._failure)

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """The offset up to which each partition has been taken: what belongs to a snapshot taken now."""
        return dict(self._next)

    async def start(self) -> None:
        """Read everything there is, then go on in the background.

        Raises what keeps it from connecting: at once where no broker answers or something has to be set right, after
        PROGRESS_LIMIT_S without anything new else.
        """
        self._starting = True
        self._task = asyncio.create_task(self.run())
        try:
            await self._until_ready()
            self._starting = False
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop following and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CONFIRM_LIMIT_S + STOP_LIMIT_S)

    async def run(self) -> None:
        """Follow until cancelled, starting over where it was after every failure."""
        while True:
            before = self.problem
            failure = await attempt(
                self._connected(),
                f"following {self._names}",
                expected=(SilentTopicError, KafkaSettingsError, NewerFormatError),
            )
            self._failure = failure
            self._failed.set()
            # What `start` waits for it raises, and its caller tells.
            if self.problem != before and not self._starting:
                log.warning("following %s is interrupted: %s", self._names, self.problem)
            await asyncio.sleep(BACKOFF_S)

    def check_fresh(self, limit_s: float) -> None:
        """Raise StaleError where everything was last confirmed to be taken longer ago than `limit_s`.

        At once where a record is there that nobody may go on without.
        """
        age_s = self.age_s()
        if age_s > limit_s or isinstance(self._failure, NewerFormatError):
            why = "" if self.problem is None else f": {self.problem}"
            raise StaleError(f"{self._names} was last read to its end {age_s:.0f} s ago{why}")

    def age_s(self) -> float:
        """Return how long ago everything was last confirmed to be taken, in seconds; infinite before the first time."""
        return time.monotonic() - self._fresh_at_s

    async def reached(self, topic: str, offset: int, limit_s: float = REACHED_LIMIT_S) -> None:
        """Return once partition 0 of a topic has been taken up to an offset, or to its end if that is less.

        Who asks may be mistaken about the offset, and must not be able to stop whoever waits here.
        Raises TimeoutError.
        """
        place = TopicPartition(topic, 0)
        wanted, is_checked = offset, False
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    if (consumer := self._consumer) is not None:
                        if await self._is_past(consumer, {place: wanted}):
                            return
                        if not is_checked:
                            wanted, is_checked = (
                                min(offset, (await consumer.end_offsets([place]))[place]),
                                True,
                            )
                            continue
                # The limit of one question is no reason to give up: a broker that hangs is replaced within `limit_s`.
                except (KafkaError, ConsumerStoppedError, TimeoutError) as error:
                    log.info("waiting for %s, the connection was lost: %r", topic, error)
                await asyncio.sleep(LOOK_AGAIN_S / 2)

    async def _until_ready(self) -> None:
        seen, since_s = -1, time.monotonic()
        while not self.ready.is_set():
            if self.records != seen:
                seen, since_s = self.records, time.monotonic()
            is_late = time.monotonic() - since_s > PROGRESS_LIMIT_S
            # With one broker away of several, a question may go unanswered; the next one is asked of another broker.
            if self._failure is not None and (is_late or not _passes(self._failure)):
                raise self._failure
            if is_late:
                raise TimeoutError(f"{self._names}: nothing arrived for {PROGRESS_LIMIT_S:.0f} s")
            self._failed.clear()
            waits = [asyncio.create_task(event.wait()) for event in (self.ready, self._failed)]
            try:
                await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _connected(self) -> None:
        options = {"request_timeout_ms": REQUEST_MS_MAX, **self._options}
        consumer = clients.consumer(self._kafka, *self._subscriptions, **options)
        try:
            await self._follow(consumer)
        finally:
            self._consumer = None
            await within(STOP_LIMIT_S, consumer.stop())

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        places = await self._assigned(consumer)
        if self._from_end and not self._next:
            # Not `seek_to_end`: what was fetched since the assignment would be handed out all the same.
            self._next = dict(await consumer.end_offsets(places))
        for place in places:
            if place in self._next:
                consumer.seek(place, self._next[place])
        self._consumer = consumer
        tasks = [
            asyncio.create_task(self._read(consumer)),
            asyncio.create_task(self._confirm(consumer, places)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _assigned(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """Connect and return all partitions of the topics.

        Raises SilentTopicError where a topic is absent, TopicAuthorizationFailedError where we may not know of one.
        """
        wanted = set(self._subscriptions)
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                await consumer.start()
                while {place.topic for place in consumer.assignment()} != wanted:
                    clients.check_rights(consumer, wanted)
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            absent = wanted - {place.topic for place in consumer.assignment()}
            raise SilentTopicError(f"cannot follow {', '.join(sorted(absent))}: does it exist?") from None
        return sorted(consumer.assignment())

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            self._taking = False
            batches = await consumer.getmany(timeout_ms=1000, max_records=RECORDS_A_TURN)
            self._taking = True
            for place, records in batches.items():
                for record in records:
                    self._take(record)
                self._next[place] = records[-1].offset + 1
                self.records += len(records)
            await asyncio.sleep(0)

    def _take(self, record: ConsumerRecord) -> None:
        subscription = self._subscriptions[record.topic]
        key = record.key or b""
        if key == OWNER_KEY:
            return
        try:
            if record.value is None:
                subscription.delete(key)
            else:
                subscription.put(key, record.value)
        except NewerFormatError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a record concerns that record alone
            if record.value is None:
                # What cannot be understood was never taken in: there is nothing to delete.
                log.info("%s/%d@%d deletes nothing: %s", *_place(record), described(error))
            else:
                self._note_bad(record, error)

    def _note_bad(self, record: ConsumerRecord, error: Exception) -> None:
        """Count a bad record, and log it unless another of its topic was logged in the last minute."""
        self.bad_records += 1
        self._count_bad(record.topic)
        if time.monotonic() - self._bad_logged_s.get(record.topic, float("-inf")) < LOG_BAD_EVERY_S:
            return
        self._bad_logged_s[record.topic] = time.monotonic()
        log.error(
            "%s/%d@%d cannot be understood and is passed over, %d such records so far: %s",
            *_place(record),
            self.bad_records,
            described(error),
        )

    async def _confirm(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        """Ask the broker for the ends again and again, and note each time that all below them is taken."""
        at_end_s = time.monotonic()
        while True:
            asked_ms, asked_s = time.time_ns() // 1_000_000, time.monotonic()
            async with asyncio.timeout(CONFIRM_LIMIT_S):
                ends = await consumer.end_offsets(places)
            while not await self._is_past(consumer, ends):
                if self.ready.is_set() and time.monotonic() - at_end_s > SILENCE_LIMIT_S:
                    raise SilentTopicError(
                        f"the end of {self._names} was not reached for {SILENCE_LIMIT_S:.0f} s"
                    )
                await asyncio.sleep(LOOK_AGAIN_S)
            at_end_s, self._fresh_at_s = time.monotonic(), asked_s
            self._confirmed(asked_ms)
            self._failure = None
            self.ready.set()
            await asyncio.sleep(self._confirm_every_s)

    async def _is_past(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> bool:
        """Return whether everything below some offsets has been taken, not only fetched."""
        async with asyncio.timeout(CONFIRM_LIMIT_S):
            for place, offset in offsets.items():
                if await consumer.position(place) < offset:
                    return False
        return not self._taking


def _passes(error: BaseException) -> bool:
    """Whether a failure to begin may be over the next time. That no broker answers at all is told at once."""
    return may_begin_anew(error) and not isinstance(error, KafkaAwayError)
