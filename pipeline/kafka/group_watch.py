"""Watch the partitions that a member of a consumer group has: how far behind they are, what stands still, what is opening.

Owns: asking the broker for the ends of the topics every few seconds, and the gauges that show what comes of it.
Called by: `kafka/reader.py`, for the worker, the sink and the mailer.

The broker's ends are compared with what is done here, so a reader that is stuck cannot hide its lag. It is one question
for all partitions, to each broker that leads any of them, and goes over a connection of its own.

There are two ends while a producer's transaction is open. What is committed ends before it: nobody may read on, so by this
end we are judged. What is written ends after it: what waits there waits for somebody, so it is lag all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import telemetry
from pipeline.connection import KafkaConnection
from pipeline.kafka.attempts import described, unreached
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.refused import why_unreached

log = logging.getLogger(__name__)

WATCH_EVERY_S = 2.0
ASK_LIMIT_MS = 5_000
SILENT_LIMIT_S = 10.0
"""After so long without an answer of the broker a part is not ready. Leaders that move take a few seconds."""
NAMED_MAX = 8
"""So many partitions are named where more are opening."""

Ends = Mapping[TopicPartition, int]


class GroupMember(Protocol):
    """What is watched: a member of a group."""

    def open_places(self) -> Sequence[TopicPartition]:
        """Return each topic's partitions that are open here."""

    def opening(self) -> Mapping[int, float]:
        """Return the partitions that are being opened, and since when by the monotonic clock, in seconds."""

    async def done_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the offset below which everything is done, of each place that is open."""

    def written_ends(self) -> Ends:
        """Return where the logs of the open places end, committed or not, by the broker's last answers to fetches."""


class GroupWatch:
    """Whether the broker answers, and what is known of each partition of a member."""

    def __init__(self, kafka: KafkaConnection, part: str, topics: Sequence[str]) -> None:
        """Prepare; nothing is connected before `run`. `part` names the role in metrics."""
        self._kafka, self._part = kafka, part
        self._somewhere = [TopicPartition(topics[0], 0)]
        """What is asked for where no partition is open: whether the broker answers matters all the same."""
        self._topics = tuple(topics)
        self._ends: dict[TopicPartition, int] = {}
        self._moved: dict[TopicPartition, tuple[int, float]] = {}
        self._answered_at_s: float | None = None
        self._lost = False
        self._why: str | None = None

    @property
    def silent_s(self) -> float:
        """For how many seconds the broker has not answered; 0 before anything was asked."""
        return 0.0 if self._answered_at_s is None else time.monotonic() - self._answered_at_s

    @property
    def problem(self) -> str | None:
        """What is wrong with the broker, None where it answers: with what to set, where it refuses us."""
        if self.silent_s <= SILENT_LIMIT_S:
            return None
        return f"Kafka has not answered for {self.silent_s:.0f} s" + (
            "" if self._why is None else f": {self._why}"
        )

    async def run(self, member: GroupMember, looked: Callable[[Ends | None], None]) -> None:
        """Ask and tell until cancelled.

        `looked` is told the ends of what is open after each question, None where the broker did not answer; what it
        raises ends this too.
        """
        self._answered_at_s = time.monotonic()
        # Its ends are those of what is committed: nobody is to end for what somebody else's open transaction holds up.
        async with started_consumer(self._kafka, request_timeout_ms=ASK_LIMIT_MS) as probe:
            while True:
                await asyncio.sleep(WATCH_EVERY_S)
                places = list(member.open_places())
                ends = await self._ask(probe, places or self._somewhere)
                looked(None if ends is None else {place: ends[place] for place in places})
                self.tell(member, await member.done_offsets(), ends or {}, time.monotonic())

    async def _ask(self, probe: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> Ends | None:
        """Return the ends of some places, None where the broker does not answer."""
        found: dict[TopicPartition, int] = {}

        async def ask() -> None:
            found.update(await probe.end_offsets(places))

        asked_at_s = time.monotonic()
        error = await unreached(ask(), "asking for the ends of topics")
        if error is None:
            if self._lost:
                log.warning("%s: Kafka answers again, after %.0f s", self._part, self.silent_s)
            self._answered_at_s, self._lost, self._why = asked_at_s, False, None
            return found
        if not self._lost:
            self._lost = True
            log.warning("%s: Kafka does not answer: %s", self._part, described(error))
        if self._why is None and self.silent_s > SILENT_LIMIT_S:
            self._why = str(await why_unreached(self._kafka.client_arguments()))
            log.warning("%s: %s", self._part, self.problem)
        return None

    def tell(self, member: GroupMember, done: Mapping[TopicPartition, int], ends: Ends, now_s: float) -> None:
        """Set the gauges: `done` is what is done of each open place, `ends` what the broker has just said, if anything.

        Where the broker says nothing, its last word counts. What is written beyond `ends` and not committed lags too.
        """
        telemetry.BROKER_SILENT.labels(self._part).set(self.silent_s)
        for partition, since_s in member.opening().items():
            telemetry.OPENING.labels(self._part, partition).set(now_s - since_s)
        self._ends.update({place: end for place, end in ends.items() if place in done})
        written = member.written_ends()
        standing_s: dict[int, float] = {}
        for place, offset in done.items():
            lag = max(0, self._ends.get(place, offset) - offset, written.get(place, offset) - offset)
            telemetry.LAG.labels(self._part, place.topic, place.partition).set(lag)
            before, since_s = self._moved.get(place, (None, now_s))
            if lag == 0 or offset != before:
                self._moved[place] = offset, now_s
                since_s = now_s
            standing_s[place.partition] = max(standing_s.get(place.partition, 0.0), now_s - since_s)
        for partition, still_s in standing_s.items():
            telemetry.STANDING.labels(self._part, partition).set(still_s)

    def note_opening(self, partition: int) -> None:
        """Show a partition from the moment on that it is assigned."""
        telemetry.OPENING.labels(self._part, partition).set(0)

    def note_open(self, partition: int) -> None:
        """Stop showing a partition as one that is being opened."""
        telemetry.OPENING.remove(self._part, partition)

    def forget(self, partitions: Iterable[int]) -> None:
        """Stop showing partitions that are not this member's any more: whoever has them next shows them."""
        for partition in partitions:
            telemetry.OPENING.remove(self._part, partition)
            telemetry.STANDING.remove(self._part, partition)
            for topic in self._topics:
                telemetry.LAG.remove(self._part, topic, partition)
                self._ends.pop(TopicPartition(topic, partition), None)
                self._moved.pop(TopicPartition(topic, partition), None)


def in_words(partitions: Iterable[int]) -> str:
    """Return the numbers of some partitions for a person, the first few of many."""
    numbers = sorted(partitions)
    more = f" and {len(numbers) - NAMED_MAX} more" if len(numbers) > NAMED_MAX else ""
    return ", ".join(map(str, numbers[:NAMED_MAX])) + more
