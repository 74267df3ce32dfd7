"""The reader of the worker: which partitions are ours, and the watchdog beside them.

Owns: handing batches of the group reader on to the agents, and noticing that work stands still.
Called by: `worker/app.py`. Next: the agents there, then `worker/partition.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import telemetry, topics
from pipeline.accounts.promos import PromoTable
from pipeline.catalog.rates import RateTable
from pipeline.gateway_book import GatewayBook
from pipeline.kafka.attempts import error_of, may_begin_anew, unreached
from pipeline.kafka.catalog import to_rates
from pipeline.kafka.follow import TopicFollower
from pipeline.kafka.gateways import to_gateways
from pipeline.kafka.group_watch import Ends
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.promos import to_promos
from pipeline.kafka.reader import GroupReader
from pipeline.settings import WorkerSettings
from pipeline.worker.ends_watch import EndsWatch
from pipeline.worker.partition import Catalog, Partition, worker_group
from pipeline.worker.standstill import BrokerContact

log = logging.getLogger(__name__)

FETCH_BYTES = 2 * 1024 * 1024
"""Bounds a unit of work: compressed, that is some 25,000 events. Transactions stay rare under load, and units
short enough for verdicts to be in time and for their events to stay in the processor's caches."""
UNIT_EVERY_S = 0.04
"""The least time from the beginning of a partition's unit to that of its next. A unit costs a transaction, some 6 ms
of CPU in worker and broker, however little is in it: one after the other they would take all the CPU there is. What
comes meanwhile is in the next one; a partition that was idle waits for nothing."""
TELL_EVERY_S = 0.2


class PendingUnit:
    """A batch of records on its way to an agent, for one unit of work. `committed` is resolved when that is done."""

    def __init__(self, partition: Partition, topic: str, records: Sequence[ConsumerRecord]) -> None:
        """Prepare, in the loop that the agent runs in."""
        self.partition, self.topic, self.records = partition, topic, records
        self.committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work: asyncio.Task[None] | None = None

    async def carry_out(self) -> None:
        """Do the unit of work, unless it was broken off before. Where Kafka was lost in it, or the partition fenced, `committed`
        is told so.

        Any other error is raised, and has to end the process.
        """
        if self.committed.done():
            return
        self._work = asyncio.create_task(self.partition.work(self.topic, self.records))
        try:
            await asyncio.wait([self._work])
        except asyncio.CancelledError:
            self._work.cancel()
            raise
        error = error_of(self._work)
        if error is not None and not may_begin_anew(error):
            raise error
        if self.committed.done():
            return
        if error is not None:
            self.committed.set_exception(error)
        else:
            self.committed.set_result(None)

    def break_off(self) -> None:
        """Cancel the unit, begun or not: nobody waits for it any more. Its partition has to be closed."""
        self.committed.cancel()
        if self._work is not None:
            self._work.cancel()


class UnitChannel(Protocol):
    """What a Faust channel is to the reader: a queue of bounded length that an agent takes units from."""

    async def put(self, unit: PendingUnit, /) -> None:
        """Add a unit, once there is room."""


class StandstillError(Exception):
    """There is input to read, but no unit of work has ended for too long."""


class PartitionReader:
    """Opens the partitions that the group assigns, and hands their batches to the agents."""

    def __init__(self, settings: WorkerSettings, channels: Mapping[str, UnitChannel]) -> None:
        """Prepare; nothing is connected before `run`. `channels` leads each input topic's units to their agent.

        Raises MissingSettingError where no command key is set.
        """
        self._settings, self._keys = settings, settings.command_keys
        self._channels = channels
        self._partitions = 0
        self._owned: dict[int, Partition] = {}
        self._in_hand: set[TopicPartition] = set()
        self._contact = BrokerContact()
        self._deciding = asyncio.Lock()
        self._rates = RateTable()
        self._promos = PromoTable()
        self._gateways = GatewayBook(self._keys.keys, all_signed=settings.signed_sources_only)
        self._follower = TopicFollower(
            settings.kafka,
            [to_rates(self._rates), to_promos(self._promos), to_gateways(self._gateways)],
            count_bad=telemetry.count_bad_record,
        )
        self._ends = EndsWatch(settings.kafka, settings.ends_every_s)
        self._reader = GroupReader(
            settings.kafka,
            worker_group(settings.deployment),
            topics.INPUTS,
            self,
            fetch_bytes=FETCH_BYTES,
            instance=settings.instance,
            done=self._done,
        )
        self._reader.watch_as("worker", self._look)
        self._reader.keep_open(self)

    async def run(self) -> None:
        """Read the catalog to its end, then work until cancelled. Raises what must end the process."""
        self._partitions = await partition_count(self._settings.kafka)
        await self._follower.start()
        tasks = [
            asyncio.create_task(part)
            for part in (self._tell_progress(), self._ends.run(), self._reader.run())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=40)
            await self._follower.stop()

    @property
    def problem(self) -> str | None:
        """What keeps this worker from working, None where it works or waits for a partition."""
        return self._reader.problem

    async def open(self, partition: int) -> Mapping[str, int]:
        """Take a partition over; see `kafka/reader.py`."""
        settings = self._settings
        owned = Partition(
            settings.kafka,
            settings.deployment,
            partition,
            self._partitions,
            Catalog(self._rates, self._promos, self._gateways, self._follower),
            self._keys,
            self._deciding,
            settings.accepted_topics,
        )
        self._owned[partition] = owned
        offsets = await owned.open()
        self._ends.opened(partition, dict(owned.topic_ids))
        self._count_owned()
        return offsets

    async def process(self, topic: str, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Give an agent a batch and wait until it is committed, and the partition's next unit may begin."""
        began = time.monotonic()
        unit = PendingUnit(self._owned[partition], topic, records)
        place = TopicPartition(topic, partition)
        self._in_hand.add(place)
        unit.partition.activity.awaits_turn()
        try:
            await self._channels[topic].put(unit)
            await unit.committed
        except asyncio.CancelledError:
            unit.break_off()
            raise
        finally:
            self._in_hand.discard(place)
        await asyncio.sleep(began + UNIT_EVERY_S - time.monotonic())

    async def close(self, partition: int) -> None:
        """Let a partition go."""
        owned = self._owned.pop(partition, None)
        self._ends.closed(partition)
        if owned is not None:
            await owned.close()
        self._count_owned()

    async def park(self, partition: int) -> None:
        """Do nothing with a partition for as long as the group shares out."""
        await self._owned[partition].park()

    def resume(self, partition: int) -> None:
        """Go on with a partition that is still ours."""
        self._owned[partition].resume()

    def _count_owned(self) -> None:
        telemetry.PARTITIONS_OWNED.set(sum(owned.is_open for owned in self._owned.values()))

    async def _tell_progress(self) -> None:
        """Have each partition tell how far its verdicts count, where its units have left that untold."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            due = [number for number, partition in self._owned.items() if partition.owes_progress]
            await asyncio.gather(*map(self._tell_progress_of, due))

    async def _tell_progress_of(self, number: int) -> None:
        """Have a partition tell; where Kafka is lost in it, the partition is opened again."""
        error = await unreached(self._owned[number].tell_progress(), "telling how far verdicts count")
        # A unit that has come meanwhile finds its log as it was left here, and says so itself.
        if error is not None and not any(place.partition == number for place in self._in_hand):
            self._reader.lose(number, error)

    def _done(self, partition: int) -> Mapping[str, int]:
        """Return up to where the inputs of a partition are done when no batch of it is in hand: all that is fetched."""
        fetched = self._reader.fetched(partition)
        self._owned[partition].passed(fetched)
        return fetched

    def _look(self, ends: Ends | None) -> None:
        """Take what the broker says of the ends of the inputs, None where it does not answer."""
        owned = {p: partition for p, partition in self._owned.items() if partition.is_open}
        now = time.monotonic()
        if ends is None:
            self._contact.failed()
            # What is fetched is known without the broker, and so is what of it is in hand.
            ends = {TopicPartition(topic, p): 0 for topic in topics.INPUTS for p in owned}
        else:
            self._contact.answered(now)
            ends = {place: end for place, end in ends.items() if place.partition in owned}
        self._check_progress(owned, ends, now)

    def _check_progress(
        self, owned: Mapping[int, Partition], ends: Mapping[TopicPartition, int], now: float
    ) -> None:
        """Raise StandstillError where something is to be posted and nothing has been for too long.

        Something is to be posted where a batch is in hand, or the input goes on after what was fetched. Not where it
        goes on after the last posted record: only markers of transactions and what was aborted may be there.
        """
        worker_moved_at = max((partition.activity.moved_at_s for partition in owned.values()), default=now)
        for place, end in ends.items():
            partition = owned[place.partition]
            next_offset = self._reader.fetched(place.partition).get(place.topic, end)
            if end <= next_offset and place not in self._in_hand:
                partition.activity.caught_up(place.topic, now)
                continue
            still_s = partition.activity.still_s(place.topic, now, worker_moved_at)
            if self._contact.too_long(still_s, now, commits=partition.activity.commits):
                raise StandstillError(
                    f"{place.topic}/{place.partition} ends at {end}, it is fetched up to {next_offset}, "
                    f"and nothing of it has been posted for {still_s:.0f} s"
                )
