"""Read partitions as a member of a consumer group, one batch at a time per partition.

Owns: membership, opening a partition before anything of it is read, and back-pressure: no more is
fetched for a partition before its last batch is done, or while its handler has no room for more.
Called by: `worker/service.py`, `sink/sink.py` and `kafka/outgoing.py`, each with a handler of its own.
Next: `kafka/group_watch.py` compares what is done with the broker's ends; `kafka/fetch_wait.py` holds fetches where nothing comes.

All topics read together have the same partition count, and `kafka/assignor.py` gives the same partition of each
to one member. Members of an earlier release may share out otherwise, so a partition counts as given to the member that
has it of the first topic, which every release reads. On assignment the handler fences and restores, and says where to read from; what
the group committed is never used to decide that. A large restore may take longer than a session lasts, and
a member sends no heartbeat inside a rebalance callback, so opening happens beside it: until a partition is
open it is paused, and nothing of it is read.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import OffsetOutOfRangeError

from pipeline.connection import KafkaConnection
from pipeline.kafka import clients
from pipeline.kafka.assignor import StickyNumbers
from pipeline.kafka.attempts import ClientCancelledError, is_cancelled, may_begin_anew
from pipeline.kafka.extent import check_beginnings, check_ends
from pipeline.kafka.fetch_wait import BUSY_MS, FetchWait
from pipeline.kafka.group_watch import Ends, GroupWatch, in_words
from pipeline.kafka.offsets import GroupOffsets
from pipeline.kafka.pump import Handler, ParkingHandler, Pump
from pipeline.topics import OUTPUT_BYTES_MAX

log = logging.getLogger(__name__)

STOP_LIMIT_S = 5.0
SESSION_TIMEOUT_MS = 10_000
HEARTBEAT_MS = 1_000
"""How long a member may go without learning that others have to share its partitions."""
METADATA_MS_MAX = 15_000
"""How long a member may go without learning that a topic was deleted and made anew: nothing else would tell it that."""
TAKE_RECORDS = 64
"""How many records are taken at once, over all partitions, where their handler says for which it has room."""


class GroupReader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is published without types
    """A member of a consumer group that hands batches to a handler."""

    def __init__(
        self,
        kafka: KafkaConnection,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        *,
        fetch_bytes: int,
        instance: str | None = None,
        interruptible: bool = False,
        done: Callable[[int], Mapping[str, int]] | None = None,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        `fetch_bytes` bounds a batch. `instance` names the member through restarts (static membership, KIP-345);
        settings.py says what it must be. `interruptible` says that a batch may be cancelled half way.

        `done` is asked after each fetch whose batches are done for the next offset of each topic of a partition, and
        the group's offsets are set to what it returns, for tools that show the lag. Without it the reader leaves them
        alone, and what is fetched counts as done.
        """
        self._topics = tuple(topics)
        self._handler = handler
        self._instance = None if instance is None else f"{instance}-{_mark_of(topics)}"
        self._pumps: dict[int, Pump] = {}
        self._fetched: dict[int, dict[str, int]] = {}
        self._done_offsets: dict[TopicPartition, int] = {}
        self._failure: asyncio.Future[None] | None = None
        self._kafka, self._group, self._fetch_bytes = kafka, group, fetch_bytes
        self.interruptible = interruptible
        self._done = done
        self._has_room: Callable[[int], bool] | None = None
        self._opened = asyncio.Event()
        self._offsets: GroupOffsets | None = None
        self._assigned = self._handing_on = False
        self._consumer: AIOKafkaConsumer | None = None
        self._fetch_wait: FetchWait | None = None
        self._assignor = StickyNumbers()
        self._parking: ParkingHandler | None = None
        self._parked: dict[int, Pump] = {}
        self._watch = GroupWatch(kafka, group, topics)
        self._looked: Callable[[Ends | None], None] = lambda _ends: None

    async def run(self) -> None:
        """Read until cancelled. Raises what a handler raised that opening again does not mend: the caller must end the process."""
        self._failure = asyncio.get_running_loop().create_future()
        self._consumer = clients.consumer(
            self._kafka,
            group_id=self._group,
            partition_assignment_strategy=[self._assignor],
            group_instance_id=self._instance,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=120_000,
            max_poll_interval_ms=600_000,
            max_partition_fetch_bytes=self._fetch_bytes,
            fetch_max_bytes=OUTPUT_BYTES_MAX * 2,
            fetch_max_wait_ms=BUSY_MS,
            metadata_max_age_ms=METADATA_MS_MAX,
            # Where to read is never the client's to decide: records that are gone are a loss, and told.
            auto_offset_reset="none",
        )
        self._offsets = GroupOffsets(self._consumer)
        self._fetch_wait = FetchWait(self._consumer)
        self._consumer.subscribe(list(self._topics), listener=self)
        beside = [asyncio.create_task(self.guard(self._offsets.run()))]
        try:
            await self._consumer.start()
            beside.append(asyncio.create_task(self.guard(self._watch.run(self, self._looked))))
            if self.takes_together:
                beside.append(asyncio.create_task(self.guard(self._take_together())))
            await self._failure
        finally:
            await self._stop_pumps([*self._pumps, *self._parked])
            for task in beside:
                task.cancel()
            await asyncio.wait(beside, timeout=STOP_LIMIT_S)
            await self._consumer.stop()

    def watch_as(self, part: str, looked: Callable[[Ends | None], None] | None = None) -> None:
        """Have metrics name this reader's part of the product; the group's name is there otherwise.

        `looked` is told the broker's ends of what is open every few seconds, None where it does not answer; whatever it
        raises ends `run`. To be called before `run`.
        """
        self._watch = GroupWatch(self._kafka, part, self._topics)
        self._looked = looked or self._looked

    def keep_open(self, parking: ParkingHandler) -> None:
        """Keep partitions open through a rebalance that leaves them here, for a handler that can. To be called before `run`."""
        self._parking = parking

    def take_together(self, has_room: Callable[[int], bool]) -> None:
        """Have one task take all partitions, for a handler that gathers what it is given and returns at once.

        To be called before `run`. `has_room` is asked whether anything more of a partition may be taken, and again
        after TAKE_RECORDS at most, over all partitions. Whenever its answers may have changed, call `ask_for_room`.
        """
        self._has_room = has_room

    @property
    def takes_together(self) -> bool:
        """Whether all partitions are taken by one task, as far as there is room for them."""
        return self._has_room is not None

    def ask_for_room(self) -> None:
        """Have what may be taken of each open partition fetched, and of no other."""
        assert self._consumer is not None
        assert self._has_room is not None
        for partition, pump in self._pumps.items():
            if pump.is_open:
                may_take = self._has_room(partition)
                (self._consumer.resume if may_take else self._consumer.pause)(*pump.places)

    def note_opening(self, partition: int) -> None:
        """Note that a partition is being opened."""
        self._watch.note_opening(partition)

    def note_opened(self, partition: int) -> None:
        """Note that a partition is open now. Those that are taken together have it taken, as far as there is room."""
        self._watch.note_open(partition)
        if not self.takes_together:
            return
        self.ask_for_room()
        self._opened.set()

    async def _take_together(self) -> None:
        """Take a few records at a time for as long as there is room.

        While there is none, an empty take drops what was fetched of paused partitions, and tells the client's own
        watch (`max_poll_interval_ms`) that somebody is there.
        """
        assert self._consumer is not None
        while True:
            places = [place for pump in self._pumps.values() if pump.is_open for place in pump.places]
            if not places:
                self._opened.clear()
                await self._opened.wait()
                continue
            self.ask_for_room()
            batches = await self.fetch(places, TAKE_RECORDS)
            self._handing_on = True
            for place, records in batches.items():
                if (pump := self._pumps.get(place.partition)) is not None and pump.is_open:
                    await self._handler.process(place.topic, place.partition, records)
            self._handing_on = False

    async def fetch(
        self, places: Sequence[TopicPartition], max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next batches of some places, none after a while.

        Raises InputCutOffError where retention overtook us, InputShortenedError where the log is another one.
        """
        assert self._consumer is not None
        assert self._fetch_wait is not None
        try:
            batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]
            batches = await self._consumer.getmany(
                *places, timeout_ms=self._fetch_wait.poll_ms, max_records=max_records
            )
        except OffsetOutOfRangeError:
            await self.check_extent(await self.positions(places))
            log.warning("an offset of %s is out of range for now; it is fetched again", places)
            return {}
        self._fetch_wait.note(is_found=bool(batches))
        return batches

    async def positions(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset that is fetched next of each place."""
        assert self._consumer is not None
        return {place: await self._consumer.position(place) for place in places}

    async def check_extent(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Raise where a log does not reach from the offset that is read next; see `kafka/extent.py`."""
        await check_beginnings(self._consumer, offsets)
        await check_ends(self._consumer, offsets)

    @property
    def problem(self) -> str | None:
        """What keeps this member from reading, None where the group has assigned partitions, maybe none, and those are open."""
        if self._watch.problem is not None or not self._assigned:
            return self._watch.problem or "joining the group"
        opening = self.opening()
        return f"opening partition {in_words(opening)}" if opening else None

    def open_places(self) -> list[TopicPartition]:
        """Return each topic's partitions that are open here."""
        return [place for pump in self._pumps.values() if pump.is_open for place in pump.places]

    def opening(self) -> dict[int, float]:
        """Return the partitions that are being opened, and since when by the monotonic clock, in seconds."""
        return {p: pump.assigned_at_s for p, pump in list(self._pumps.items()) if not pump.is_open}

    async def done_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset below which everything is done, of each place that is open."""
        if self.takes_together and not self._handing_on:
            # Nothing is between the client and the handler: what the client is past is in the handler's hands.
            for place, offset in (await self.positions(self.open_places())).items():
                self._fetched.setdefault(place.partition, {})[place.topic] = offset
                self.report_done(place.partition)
        return {
            place: self._done_offsets[place] for place in self.open_places() if place in self._done_offsets
        }

    def written_ends(self) -> dict[TopicPartition, int]:
        """Return where the logs of the open places end, committed or not, by the broker's last answers to fetches."""
        assert self._consumer is not None
        ours = self._consumer.assignment()
        ends = {place: self._consumer.highwater(place) for place in self.open_places() if place in ours}
        return {place: end for place, end in ends.items() if end is not None}

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Finish the batch in hand of each revoked partition, then park it or let it go.

        Nothing is ours before the next assignment, so nothing is done; most of it will be ours again.
        """
        self._assigned = False
        partitions = sorted({place.partition for place in revoked})
        await self.guard(self._stop_pumps(partitions) if self._parking is None else self._park(partitions))

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Start to open each partition; it is read from where its owner's state says.

        A parked one stays open if nobody else can have had it meanwhile.
        """
        assert self._consumer is not None
        self._consumer.pause(*assigned)
        ours = {place.partition for place in assigned if place.topic == self._topics[0]}
        keeps = ours & self._parked.keys() if self._assignor.follows else set()
        keeps = {p for p in keeps if self._parked[p].is_open and set(self._parked[p].places) <= set(assigned)}
        await self.guard(self._stop_pumps(sorted(self._parked.keys() - keeps)))
        for partition in sorted(ours):
            places = [TopicPartition(topic, partition) for topic in self._topics]
            if absent := [place for place in places if place not in assigned]:
                log.warning("nobody reads %s before the members of an earlier release are gone", absent)
                places = [place for place in places if place in assigned]
            if partition in keeps:
                self._go_on(partition, places)
            else:
                self._pumps[partition] = Pump(self, self._consumer, partition, places, self._handler)
        self._assigned = True

    async def _park(self, partitions: Sequence[int]) -> None:
        """Have nothing done with partitions before the next assignment. What is not open yet is let go."""
        assert self._parking is not None
        await self._stop_pumps([p for p in partitions if p in self._pumps and not self._pumps[p].is_open])
        for partition in partitions:
            if partition in self._pumps:
                self._parked[partition] = self._pumps.pop(partition)
        await asyncio.gather(*(self._park_one(partition) for partition in self._parked))
        if self._offsets is not None:
            await self._offsets.give_up(partitions)

    async def _park_one(self, partition: int) -> None:
        assert self._parking is not None
        if await self._parked[partition].halt():
            await self._parking.park(partition)
        else:
            await self._stop_pumps([partition])

    def _go_on(self, partition: int, places: Sequence[TopicPartition]) -> None:
        assert self._parking is not None
        self._pumps[partition] = pump = self._parked.pop(partition)
        self._parking.resume(partition)
        pump.go_on(places)

    async def guard(self, work: Awaitable[None]) -> None:
        """Do a part of the work. Whatever ends it, but a cancellation that somebody here asked for, ends `run`."""
        try:
            await work
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            self.fail(error)
        except BaseException as error:  # noqa: BLE001  # whatever it is ends the process
            self.fail(error)

    def lose(self, partition: int, error: BaseException) -> None:
        """Take what ended the work that a handler does beside the batches of a partition; see `Pump.lose`.

        The partition is opened again where Kafka was lost or somebody has fenced it; one that is parked, once it is assigned.
        Any other error ends `run`.
        """
        if not may_begin_anew(error):
            self.fail(error)
        elif partition in self._parked:
            self._parked[partition].is_open = False
        elif partition in self._pumps:
            self._pumps[partition].lose(error)

    def fail(self, error: BaseException) -> None:
        """End `run` with an error. A cancellation is one too: `run` itself was not asked to stop."""
        if self._failure is not None and not self._failure.done():
            is_stray = isinstance(error, asyncio.CancelledError)
            self._failure.set_exception(ClientCancelledError() if is_stray else error)

    def fetched(self, partition: int) -> dict[str, int]:
        """Return up to which offset each topic of a partition is fetched, nothing where the partition is not open.

        The markers of transactions and what was aborted are no records, but these offsets are past them too.
        """
        return self._fetched.get(partition, {})

    def past_markers(self, partition: int, topic: str, next_offset: int) -> int:
        """Return the offset up to which a topic's partition is done, of which nothing waits and the next record is known.

        The markers of transactions are no records: without them a partition that is done would seem to stand still.
        """
        return max(next_offset, self.fetched(partition).get(topic, 0))

    def note_fetched(self, partition: int, positions: Mapping[TopicPartition, int]) -> bool:
        """Note up to which offset a partition's topics are fetched, and return whether that is further than before."""
        before = self._fetched.get(partition)
        self._fetched[partition] = {place.topic: offset for place, offset in positions.items()}
        return self._fetched[partition] != before

    def done(self, place: TopicPartition) -> int:
        """Return the offset below which everything of an open place is done; 0 where it has just come to be read."""
        return self._done_offsets.get(place, 0)

    def report_done(self, partition: int) -> None:
        """Have the group's offsets set to what is done of a partition, soon, and its lag shown."""
        of_topics = self.fetched(partition) if self._done is None else self._done(partition)
        done = {TopicPartition(topic, partition): offset for topic, offset in of_topics.items()}
        self._done_offsets.update(done)
        if self._done is not None and self._offsets is not None:
            self._offsets.note(done)

    async def _stop_pumps(self, partitions: Sequence[int]) -> None:
        pumps = [
            held.pop(partition)
            for partition in partitions
            for held in (self._pumps, self._parked)
            if partition in held
        ]
        await asyncio.gather(*(pump.stop() for pump in pumps))
        if self._offsets is not None:
            await self._offsets.give_up(partitions)
        self._watch.forget(partitions)
        for partition in partitions:
            self._fetched.pop(partition, None)
            for topic in self._topics:
                self._done_offsets.pop(TopicPartition(topic, partition), None)


def _mark_of(topics: Sequence[str]) -> str:
    """Return eight hex digits that depend on the topics, for the member's name in its group.

    A member that comes back under its old name is given its old partitions without a rebalance. One that reads
    other topics than before must not be: it needs partitions of the new topics too.
    """
    return f"{zlib.crc32(' '.join(sorted(topics)).encode()):08x}"
