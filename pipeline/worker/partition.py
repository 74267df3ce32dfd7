"""Own one partition: take the steps of the worker's protocol with a real Kafka.

Owns: how each step is taken, the lock that makes units take turns, and what is measured.
Called by: `worker/service.py` on assignment, the agents for each batch.
Next: `posting/protocol.py` has the steps in their order, `kafka/fenced.py` commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from aiokafka import TopicPartition

from pipeline import telemetry, topics
from pipeline.accounts.authentication import CommandKeys
from pipeline.accounts.notices import TOLD_KINDS
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.apply import CATALOG_AGE_MAX_MS
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.driving import drive
from pipeline.gateway_book import GatewayBook
from pipeline.kafka.bounded import last_headers
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.follow import TopicFollower
from pipeline.kafka.topic_ids import topic_ids
from pipeline.money import NANO_PER_RUPEE
from pipeline.outcomes import MoneyOutcome
from pipeline.posting import progress, protocol
from pipeline.posting.differing import DifferingDuplicate
from pipeline.posting.protocol import AwaitCatalog, Decide, Posted, WorkerStep
from pipeline.posting.reviewing import told_count
from pipeline.posting.state import PartitionState
from pipeline.posting.unit import InputRecord, TracedCommand
from pipeline.steps import (
    NOTHING_ACCEPTED,
    Commit,
    ConfirmOwner,
    Fence,
    LastHeaders,
    Now,
    Reached,
    Restore,
    TopicIds,
)
from pipeline.worker.standstill import Activity

log = logging.getLogger(__name__)

PROGRESS_DUE_S = 0.6
"""A little more than units leave between two records of progress, so that a busy partition needs no other."""
TELL_DIFFERING_EVERY_S = 60.0
DIFFERING_SOURCES_MAX = 1_000
CATALOG_AGE_LIMIT_S = CATALOG_AGE_MAX_MS / 1000
"""Later rates are announced so far ahead that a catalog confirmed within this is right for every instant."""


@dataclass(frozen=True)
class Catalog:
    """The rates, the promo codes and the registered gateways, and what keeps them up to date."""

    rates: RateTable
    promos: PromoTable
    gateways: GatewayBook
    follower: TopicFollower


class Partition:
    """One owned partition: its state, its fenced log, and the lock that makes units take turns."""

    def __init__(
        self,
        kafka: KafkaConnection,
        deployment: str,
        partition: int,
        partitions: int,
        catalog: Catalog,
        keys: CommandKeys,
        deciding: asyncio.Lock,
        accepted_topics: Mapping[str, str] = NOTHING_ACCEPTED,
    ) -> None:
        """Prepare; nothing is connected before `open`.

        `keys` are those that commands are signed with, `accepted_topics` the setting's of that name.

        `deciding` is shared by all partitions of the worker: one decides at a time, while others commit. If
        they took turns within their units, all of them would be done as late as the last.
        """
        self._kafka, self._deployment = kafka, deployment
        self._partition, self._partitions = partition, partitions
        self._catalog, self._keys = catalog, keys
        self._deciding = deciding
        self._accepted_topics = accepted_topics
        self._log = FencedLog(kafka, f"{deployment}-{partition}", role="worker")
        self._lock = asyncio.Lock()
        self._state = PartitionState(partition, partitions)
        self.is_open = self._is_parked = False
        self._told_differing_s: dict[str, float] = {}
        self._progress_due_since_s: float | None = None
        self.activity = Activity(time.monotonic())

    async def open(self) -> dict[str, int]:
        """Fence the previous owner, restore, and return the next offset of each input topic.

        Raises StateError where the state does not fit, NewerFormatError where only a newer release can read it, or
        whatever Kafka raises.
        """
        started = time.monotonic()
        taking_over = protocol.take_over(
            self._deployment, self._partition, self._partitions, self._accepted_topics
        )
        self._state = await drive(taking_over, self._take)
        self.is_open = True
        self._note_progress()
        self.activity.moved(time.monotonic())
        telemetry.RESTORE.observe(time.monotonic() - started)
        telemetry.ACCOUNTS.labels(self._partition).set(len(self._state))
        log.info("partition %d is ours, %d accounts", self._partition, len(self._state))
        return dict(self._state.meta.offsets)

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """The ids of the partition's topics, by name, as of the take-over."""
        return self._state.meta.topic_ids

    def passed(self, offsets: Mapping[str, int]) -> None:
        """Note that below these offsets of the inputs nothing is left to do, when no batch of them is in hand.

        The last of it may be markers of transactions, or what was aborted. The next unit keeps these offsets: by the last
        record's alone, a log whose retention has left nothing would seem to have lost the markers unread.
        """
        known = self._state.meta.offsets
        known.update({topic: offset for topic, offset in offsets.items() if offset > known.get(topic, 0)})

    async def park(self) -> None:
        """Return once nothing is under way; then nothing is written before `resume` or `close`."""
        await self._lock.acquire()
        self._is_parked = True

    def resume(self) -> None:
        """Go on where it was parked."""
        self._is_parked = False
        self._lock.release()
        # What came meanwhile has waited for nothing that the worker did.
        self.activity.moved(time.monotonic())

    async def close(self) -> None:
        """Let the partition go; the batch in hand, if any, is finished first."""
        if self._is_parked:
            self.resume()
        async with self._lock:
            self.is_open = False
            # Its next owner shows them.
            telemetry.WORKER_BEHIND.remove(self._partition)
            telemetry.ACCOUNTS.remove(self._partition)
            await self._log.close()

    async def work(self, topic: str, records: Sequence[InputRecord]) -> None:
        """Carry out a batch, in one unit of work or in a few. Any exception leaves memory ahead of Kafka: close this, and open another."""
        async with self._lock:
            self.activity.moved(time.monotonic())
            rates, promos = self._catalog.rates, self._catalog.promos
            has_more = True
            while has_more:
                started = time.monotonic()
                unit_of_work = protocol.unit_of_work(
                    self._state, rates, promos, self._keys, topic, records, gateways=self._catalog.gateways
                )
                posted = await drive(unit_of_work, self._take)
                if posted is not None:
                    self._count(posted, topic, started, records[0].timestamp)
                has_more = posted is not None and posted.has_more
            self._note_progress()

    @property
    def owes_progress(self) -> bool:
        """Whether gateways have not been told for a while how far the verdicts count, and no unit is under way."""
        due_since_s = self._progress_due_since_s
        return (
            due_since_s is not None
            and time.monotonic() - due_since_s >= PROGRESS_DUE_S
            and not self._lock.locked()
        )

    async def tell_progress(self) -> None:
        """Tell gateways how far the verdicts count, where that is owed. After any exception this partition is of no more use."""
        if not self.owes_progress:
            return
        async with self._lock:
            if self.is_open:
                await drive(protocol.tell_progress(self._state), self._take)
                self._note_progress()

    def _note_progress(self) -> None:
        """Note since when gateways have not been told how far the verdicts count."""
        if not progress.is_due(self._state):
            self._progress_due_since_s = None
        elif self._progress_due_since_s is None:
            self._progress_due_since_s = time.monotonic()

    async def _take(self, step: WorkerStep) -> object:  # noqa: C901 - one case a step
        """Take a step of the protocol and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(place.topic, place.partition))
            case TopicIds(names):
                return step.answered(await topic_ids(self._kafka, names))
            case LastHeaders(place):
                return step.answered(await last_headers(self._kafka, TopicPartition(*place)))
            case ConfirmOwner(place):
                await self._log.confirm_owner(place)
            case AwaitCatalog(catalog_offset, promos_offset, gateways_offset):
                await self._catalog.follower.reached(topics.CATALOG, catalog_offset)
                await self._catalog.follower.reached(topics.PROMOS, promos_offset)
                await self._catalog.follower.reached(topics.GATEWAYS, gateways_offset)
            case Decide(decision):
                await self._decide(decision)
            case Commit():
                began = time.monotonic()
                self.activity.awaits_commit(began)
                await self._log.commit(step.outputs)
                self.activity.moved(time.monotonic())
                telemetry.COMMIT.observe(self.activity.moved_at_s - began)
            case Now():
                return step.answered(time.time_ns() // 1_000_000)
            case Reached(point):
                reach(point)
            case _:
                assert_never(step)
        return None

    async def _decide(self, decision: Iterator[None]) -> None:
        self.activity.awaits_turn()
        async with self._deciding:
            self.activity.moved(time.monotonic())
            self._catalog.follower.check_fresh(CATALOG_AGE_LIMIT_S)
            for _ in decision:
                await asyncio.sleep(0)

    def _count(self, posted: Posted, topic: str, started: float, oldest_ms: int) -> None:
        """Count a unit that is committed; `oldest_ms` is when Kafka took the first record of its batch."""
        unit, counts, ended = posted.unit, posted.output.counts, time.monotonic()
        self.activity.moved(ended)
        telemetry.UNITS.labels(topic).observe(ended - started)
        telemetry.EVENTS.inc(counts["events"])
        telemetry.COMMANDS.inc(counts["commands"])
        telemetry.DUPLICATES.inc(counts["duplicates"])
        telemetry.IRREGULAR.inc(counts["irregular"])
        telemetry.UNNUMBERED.inc(counts["unnumbered"])
        telemetry.MOVED.inc(counts["moved"])
        telemetry.CHARGED.inc(unit.charged)
        telemetry.UNIT_EVENTS.observe(counts["events"])
        telemetry.DEBITED_RUPEES.inc(unit.debited_nano / NANO_PER_RUPEE)
        telemetry.ALERTS.inc(counts["alerts"])
        for kind in TOLD_KINDS:
            telemetry.NOTICES.labels(kind).inc(counts[told_count(kind)])
        for duplicate in unit.differing:
            telemetry.DIFFERING_DUPLICATES.labels(duplicate.kind).inc()
            self._tell_differing(duplicate, ended)
        for outcome in MoneyOutcome:
            telemetry.MONEY.labels(outcome).inc(counts[outcome])
        for traced in unit.traced:
            self._tell_traced(traced)
        for letter in posted.output.dead_letters:
            telemetry.DEAD_LETTERS.labels(letter.reason).inc()
        if topic == topics.REQUESTS:
            telemetry.VERDICT_LAG.observe(max(0.0, time.time() - oldest_ms / 1000))
        if unit.requests_ms:
            # Of requests alone: commands come all the time, and say nothing of how far behind the requests are.
            behind_s = time.time() - unit.requests_ms / 1000
            telemetry.WORKER_BEHIND.labels(self._partition).set(max(0.0, behind_s))
        telemetry.ACCOUNTS.labels(self._partition).set(len(self._state))

    def _tell_traced(self, traced: TracedCommand) -> None:
        """Log what became of a command under the id of the request that it was sent for. Questions come all the time."""
        log.log(
            logging.DEBUG if traced.only_asks else logging.INFO,
            "partition %d: the command %s was %s",
            self._partition,
            traced.kind,
            "carried out" if traced.refusal is None else f"refused: {traced.refusal}",
            extra={"request_id": traced.request_id},
        )

    def _tell_differing(self, duplicate: DifferingDuplicate, at_s: float) -> None:
        """Log a duplicate that is not what was charged, unless another of its source was logged in the last minute."""
        told_s = self._told_differing_s
        if at_s - told_s.get(duplicate.source, float("-inf")) < TELL_DIFFERING_EVERY_S:
            return
        if len(told_s) >= DIFFERING_SOURCES_MAX:
            told_s.clear()
        told_s[duplicate.source] = at_s
        log.warning(
            "partition %d: an event of source %r with id %r was dropped as a duplicate, but is not what was charged: %s",
            self._partition,
            duplicate.source,
            duplicate.id,
            duplicate.kind,
        )


def worker_group(deployment: str) -> str:
    """Return the consumer group of a deployment's workers."""
    return f"{deployment}-worker"
