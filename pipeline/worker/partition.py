"""Own one partition: fence, restore, and carry out units of work.

Owns: the numbered steps of a unit, and that memory and Kafka advance together or not at all.
Called by: `worker/service.py` on assignment, the agents for each batch.
Next: `posting/` decides, `kafka/fenced.py` commits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition

from pipeline import telemetry, topics
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import RateTable
from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.journal import read_headers
from pipeline.kafka.bounded import last_committed
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.kafka.follow import TopicFollower
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting.commands import catalog_offset_needed, post_commands, promos_offset_needed
from pipeline.posting.requests import post_requests
from pipeline.posting.state import PartitionState, StateError
from pipeline.posting.unit import InputRecord, Outcome, Unit, close, fresh
from pipeline.worker.progress import Progress

log = logging.getLogger(__name__)

CATALOG_AGE_LIMIT_S = 45.0
"""Later rates are announced 60 s ahead, so a catalog confirmed within this is right for every instant."""


@dataclass(frozen=True)
class Catalog:
    """The rates and the promo codes, and what keeps them up to date."""

    rates: RateTable
    promos: PromoTable
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
        deciding: asyncio.Lock,
    ) -> None:
        """Prepare; `open` makes it ours.

        `deciding` is shared by all partitions of the worker: one decides at a time, while others commit. If
        they took turns within their units, all of them would be done as late as the last.
        """
        self._kafka = kafka
        self._partition, self._partitions = partition, partitions
        self._catalog = catalog
        self._deciding = deciding
        self._group = worker_group(deployment)
        self._log = FencedLog(kafka, f"{deployment}-{partition}", role="worker")
        self._lock = asyncio.Lock()
        self._state = PartitionState(partition, partitions)
        self.is_open = False
        self.progress = Progress(time.monotonic())

    async def open(self) -> dict[str, int]:
        """Fence the previous owner, restore, and return the next offset of each input topic.

        Raises StateError where the state does not fit, or whatever Kafka raises.
        """
        started = time.monotonic()
        await self._log.start()
        records = await self._log.restore(topics.STATE, self._partition)
        self._state = PartitionState.restored(self._partition, self._partitions, records)
        await self._check_against_journal()
        reach("worker.restored")
        self.is_open = True
        self.progress.moved(time.monotonic())
        telemetry.RESTORE.observe(time.monotonic() - started)
        telemetry.ACCOUNTS.labels(self._partition).set(len(self._state))
        log.info("partition %d is ours, %d accounts", self._partition, len(self._state))
        return dict(self._state.meta.offsets)

    async def _check_against_journal(self) -> None:
        """Raise StateError where state and journal were not written by the same units up to the end."""
        last = await last_committed(self._kafka, TopicPartition(topics.JOURNAL, self._partition))
        in_journal = 1 if last is None else read_headers(last.headers, b"").last + 1
        in_state = self._state.meta.position
        if in_state != in_journal:
            # Whoever took over during the restore may have gone on: then this raises, as we are fenced.
            offsets = self._state.meta.offsets or {topics.REQUESTS: 0}
            await self._log.commit({}, self._places(offsets), self._group)
            behind = "state" if in_state < in_journal else "journal"
            raise StateError(
                f"partition {self._partition}: the {behind} topic lost records: the state's next position is "
                f"{in_state}, the journal's {in_journal}. Restore {topics.STATE} and {topics.JOURNAL} to the "
                "same moment before you start a worker: see docs/operations.md."
            )

    async def close(self) -> None:
        """Let the partition go; the batch in hand, if any, is finished first."""
        async with self._lock:
            await self._log.close()

    @property
    def next_offsets(self) -> dict[str, int]:
        """The offset up to which each topic has been posted, if any of it has; between units, what is committed."""
        return dict(self._state.meta.offsets)

    async def work(self, topic: str, records: Sequence[InputRecord]) -> None:
        """Carry out one unit of work. Any exception leaves memory ahead of Kafka: end the process."""
        async with self._lock:
            started = time.monotonic()
            # 1. Only what the state has not seen yet, without a gap.
            fresh_records = fresh(self._state, records, gapless=topic == topics.REQUESTS)
            if not fresh_records:
                return
            unit = Unit(self._state, self._catalog.rates, promos=self._catalog.promos)
            # 2. Decide: pure, in memory.
            await self._post(unit, topic, fresh_records)
            outcome = close(unit, topics.REQUESTS)
            reach("worker.decided")
            # 3. Everything it comes to, in one transaction. After this the unit has happened.
            committing = time.monotonic()
            await self._log.commit(self._outputs(outcome))
            reach("worker.committed")
            # 4. Only counting is left.
            telemetry.COMMIT.observe(time.monotonic() - committing)
            self._count(unit, outcome, topic, started)

    async def _post(self, unit: Unit, topic: str, records: Sequence[InputRecord]) -> None:
        if topic == topics.BILLING:
            await self._catalog.follower.reached(topics.CATALOG, catalog_offset_needed(records))
            await self._catalog.follower.reached(topics.PROMOS, promos_offset_needed(records))
            post_commands(unit, records)
            return
        self.progress.awaits_turn()
        async with self._deciding:
            self.progress.moved(time.monotonic())
            self._catalog.follower.check_fresh(CATALOG_AGE_LIMIT_S)
            for _ in post_requests(unit, records, moved=topic == topics.MOVED):
                await asyncio.sleep(0)

    def _outputs(self, outcome: Outcome) -> dict[TopicPartition, list[Output]]:
        here = self._partition
        outputs: dict[TopicPartition, list[Output]] = defaultdict(list)
        outputs[TopicPartition(topics.STATE, here)] = [Output(k, v) for k, v in outcome.state]
        outputs[TopicPartition(topics.JOURNAL, here)] = [
            Output(None, record.value, record.headers()) for record in outcome.journal
        ]
        outputs[TopicPartition(topics.VERDICTS, here)] = [Output(k, v) for k, v in outcome.verdicts]
        outputs[TopicPartition(topics.KEYS, here)] = [Output(k, v) for k, v in outcome.keys]
        outputs[TopicPartition(topics.ORDERS, here)] = [Output(k, v) for k, v in outcome.orders]
        outputs[TopicPartition(topics.MAIL, here)] = [Output(k, v) for k, v in outcome.mail]
        outputs[TopicPartition(topics.REPLIES, here)] = [Output(None, reply) for reply in outcome.replies]
        outputs[TopicPartition(topics.DEAD_LETTERS, here)] = [
            Output(None, letter.value, letter.headers) for letter in outcome.dead_letters
        ]
        for moved in outcome.moved:
            place = TopicPartition(topics.MOVED, moved.partition)
            outputs[place].append(Output(None, moved.value, moved.headers))
        return outputs

    def _places(self, offsets: Mapping[str, int]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, self._partition): n for topic, n in offsets.items()}

    def _count(self, unit: Unit, outcome: Outcome, topic: str, started: float) -> None:
        ended = time.monotonic()
        self.progress.moved(ended)
        telemetry.UNITS.labels(topic).observe(ended - started)
        telemetry.EVENTS.inc(outcome.counts["events"])
        telemetry.COMMANDS.inc(outcome.counts["commands"])
        telemetry.DUPLICATES.inc(outcome.counts["duplicates"])
        telemetry.MOVED.inc(outcome.counts["moved"])
        telemetry.CHARGED.inc(unit.charged)
        telemetry.UNIT_EVENTS.observe(outcome.counts["events"])
        telemetry.DEBITED_RUPEES.inc(unit.debited_nano / NANO_PER_RUPEE)
        telemetry.ALERTS.inc(outcome.counts["alerts"])
        for outcome_of_money in telemetry.MONEY_OUTCOMES:
            telemetry.MONEY.labels(outcome_of_money).inc(outcome.counts[outcome_of_money])
        for letter in outcome.dead_letters:
            telemetry.DEAD_LETTERS.labels(letter.reason).inc()
        behind_s = time.time() - self._state.meta.posted_ms / 1000
        telemetry.WORKER_BEHIND.labels(self._partition).set(max(0.0, behind_s))
        telemetry.ACCOUNTS.labels(self._partition).set(len(self._state))


def worker_group(deployment: str) -> str:
    """Return the consumer group of a deployment's workers."""
    return f"{deployment}-worker"
