"""Read one round of what the first cluster has, in an order from which a copy can be cut.

Owns: the consumers on the first cluster, what a round reads in which order, and where each partition's part of it is cut.
Called by: `mirror/copier.py`. Next: `mirror/records.py` says which topics are read how.

A worker commits its state and what it writes beside it in one transaction, but nobody can read several partitions at one
instant. So a round reads

1. the states up to their ends, asked first;
2. everything else up to ends that are asked after that: with all that goes with these states, and a little more;
3. the account states a little further, up to ends that are asked last: with the state of all that was read in 2;
4. the catalog and the promo codes, so that nothing read names an end of theirs that is not there.

What was read in 2 and belongs to a unit whose state came only in 3 is held back: it is not older than that unit's
first state record, as one producer wrote both, one unit after the other. The journal tells by its positions, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.journal import read_headers
from pipeline.kafka.bounded import FETCH
from pipeline.kafka.clients import started_consumer
from pipeline.mirror.records import AHEAD, HELD, LEVEL, STATES
from pipeline.posting import set_aside
from pipeline.posting.state import META_KEY, read_meta
from pipeline.steps import TopicPlace

POLL_MS = 20
CHUNK_BYTES = 32 * 1024 * 1024
"""About how much of what may be copied ahead is in memory at once, and in one transaction."""
BEHIND_OFFSETS = 50_000
"""A copy further behind than this first catches up, in several transactions; until then it cannot be used."""

Records = defaultdict[TopicPartition, list[ConsumerRecord]]


@dataclass
class MirrorRound:
    """What one round copies: committed records by place, and up to which offset of the first cluster each place is read.

    `positions` are the next positions of the journal by the newest state read, by partition.
    """

    records: dict[TopicPartition, list[ConsumerRecord]] = field(default_factory=dict)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)


class MirrorReader:
    """Reads the first cluster from where the copy ends."""

    def __init__(
        self,
        states: AIOKafkaConsumer,
        others: AIOKafkaConsumer,
        level: AIOKafkaConsumer,
        asking: AIOKafkaConsumer,
    ) -> None:
        """Take consumers with their places assigned: see `started_reader`."""
        self._states, self._others, self._level, self._asking = states, others, level, asking

    async def behind(self) -> int:
        """Return how many offsets of what may be copied ahead are not read yet."""
        ends = await self._asking.end_offsets(self._others.assignment())
        return sum([end - await self._others.position(place) for place, end in ends.items()])

    async def chunk(self) -> MirrorRound:
        """Read some of what is neither state nor catalog, whatever the states are: it is there to catch up."""
        ends = await self._asking.end_offsets(self._others.assignment())
        found = await _read_up_to(self._others, ends, CHUNK_BYTES)
        return MirrorRound(found, {place: await self._others.position(place) for place in ends})

    async def round(self, positions: Mapping[int, int]) -> MirrorRound:
        """Read a round; `positions` are those of the round before, for partitions whose state did not change."""
        found = MirrorRound(positions=dict(positions))
        # 1. to 3., as above.
        cuts = await self._states.end_offsets(self._states.assignment())
        ends = await self._asking.end_offsets(self._others.assignment())
        states = await _read_up_to(self._states, cuts)
        others = await _read_up_to(self._others, ends)
        last = await self._asking.end_offsets([place for place in cuts if place.topic == topics.STATE])
        for place, records in (await _read_up_to(self._states, last)).items():
            states[place] += records
        newer_ms = {}
        for place, end in cuts.items():
            newer_ms[place] = self._cut_state(found, place, states[place], end)
        for place in ends:
            newer = newer_ms.get(TopicPartition(topics.STATE, place.partition))
            await self._cut_other(found, place, others[place], newer)
        # 4. All that names a catalog has been read.
        level_ends = await self._level.end_offsets(self._level.assignment())
        level = await _read_up_to(self._level, level_ends)
        for place in level_ends:
            found.records[place] = level[place]
            found.next_offsets[place] = await self._level.position(place)
        return found

    def _cut_state(
        self, into: MirrorRound, place: TopicPartition, records: list[ConsumerRecord], end: int
    ) -> int | None:
        """Take a state's records before `end` into a round; return when the first beyond it was made, if there is one."""
        into.records[place] = [record for record in records if record.offset < end]
        into.next_offsets[place] = end
        self._states.seek(place, end)
        if place.topic != topics.STATE:
            return None
        before = into.positions.get(place.partition, 1)
        into.positions[place.partition] = _position(into.records[place], before)
        beyond = (r.timestamp for r in records if r.offset >= end and _is_of_a_unit(r))
        return next(beyond, None)

    async def _cut_other(
        self, into: MirrorRound, place: TopicPartition, records: list[ConsumerRecord], newer_ms: int | None
    ) -> None:
        """Take another partition's records into a round; what is held back is read again by the next one."""
        kept = records
        if place.topic in HELD:
            kept = without_newer(records, newer_ms, into.positions.get(place.partition, 1))
        if len(kept) < len(records):
            self._others.seek(place, records[len(kept)].offset)
        into.records[place] = kept
        into.next_offsets[place] = await self._others.position(place)


@asynccontextmanager
async def started_reader(
    source: KafkaConnection, next_offsets: Mapping[TopicPlace, int]
) -> AsyncIterator[MirrorReader]:
    """Connect to the first cluster for as long as the block runs; each place is read on from its offset."""
    options = {**FETCH, "auto_offset_reset": "none", "fetch_max_wait_ms": POLL_MS}
    async with (
        started_consumer(source, **options) as states,
        started_consumer(source, **options) as others,
        started_consumer(source, **options) as level,
        started_consumer(source, isolation_level="read_uncommitted") as asking,
    ):
        for consumer, names in ((states, STATES), (others, (*AHEAD, *HELD)), (level, LEVEL)):
            places = {
                TopicPartition(*place): next_offsets[place] for place in next_offsets if place.topic in names
            }
            consumer.assign(list(places))
            for place, offset in places.items():
                consumer.seek(place, offset)
        yield MirrorReader(states, others, level, asking)


async def _read_up_to(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], bytes_max: int | None = None
) -> Records:
    """Return the committed records up to these ends, and what came along beyond; less once there are `bytes_max`."""
    found: Records = defaultdict(list)
    size = 0
    waiting = dict(ends)
    while True:
        for place in list(waiting):
            if await consumer.position(place) >= waiting[place]:
                del waiting[place]
        if not waiting or (bytes_max is not None and size >= bytes_max):
            return found
        for place, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            found[place] += records
            size += sum(len(record.value or b"") for record in records)


def _is_of_a_unit(record: ConsumerRecord) -> bool:
    """Whether a state record is one that its owner writes with a unit."""
    key: bytes = record.key
    return key != topics.OWNER_KEY and key[:1] != set_aside.MARK


def _position(records: Sequence[ConsumerRecord], before: int) -> int:
    """Return the journal's next position by the newest of these state records."""
    for record in reversed(records):
        if record.key == META_KEY and record.value is not None:
            return read_meta(record.value).position
    return before


def without_newer(
    records: Sequence[ConsumerRecord], newer_ms: int | None, position: int
) -> list[ConsumerRecord]:
    """Return the first of a partition's records, up to one that belongs to a unit whose state is not in the round.

    `newer_ms` is when the first state record beyond the round was made, None where none is known; `position` the
    journal's next position by the state in the round.
    """
    for index, record in enumerate(records):
        is_newer = newer_ms is not None and record.timestamp >= newer_ms
        if record.topic == topics.JOURNAL:
            is_newer = is_newer or read_headers(record.headers, b"").last >= position
        if is_newer:
            return list(records[:index])
    return list(records)
