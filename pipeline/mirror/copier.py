"""Keep a copy of a deployment's topics on a second cluster, from which workers can go on when the first is lost.

Owns: where a copy begins and goes on, and what one round writes. A round is one transaction, so the copy is always as of
the end of a round. Called by: `cli/mirror.py`. Next: `mirror/reading.py`, `mirror/writing.py`, `mirror/records.py`.
Why this and not MirrorMaker: `docs/adr/0011-a-copy-that-workers-can-go-on-from.md`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.journal import read_headers
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.bounded import ends_of
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.fenced import read_compacted
from pipeline.kafka.partitions import partition_count
from pipeline.kafka.topic_ids import topic_ids
from pipeline.mirror import progress
from pipeline.mirror.progress import HEAD_KEY, MirroredPlace, MirrorHead
from pipeline.mirror.reading import BEHIND_OFFSETS, CHUNK_BYTES, MirrorReader, MirrorRound, started_reader
from pipeline.mirror.records import (
    AHEAD,
    HELD,
    LEVEL,
    MAPPED,
    NAMED,
    STATES,
    Translation,
    read_up_to,
    translated,
)
from pipeline.mirror.writing import Copied, MirrorError, MirrorWriter, started_writer
from pipeline.posting.state import COPY_KEY, META_KEY
from pipeline.settings import CommonSettings
from pipeline.steps import TopicPlace

log = logging.getLogger(__name__)

ROUND_EVERY_S = 1.0
RETRY_S = 2.0
TOLD_EVERY_S = 60.0
PLACE = TopicPlace(topics.MIRROR_STATE, 0)
COPIED = (*STATES, *HELD, *AHEAD, *LEVEL)


async def mirror(source: KafkaConnection, target: KafkaConnection, settings: CommonSettings) -> None:
    """Copy for ever, again and again after errors of Kafka.

    Raises MirrorError where the second cluster is none of this copy, the first is another one than before, or the copy
    was promoted or is written by somebody else now; NewerFormatError and PartitionsError.
    """
    partitions = await partition_count(source)
    on_target = settings.model_copy(update={"partitions": partitions})
    # With the time stamps that records have on the first cluster, and whatever size they come to when they are compressed
    # another way; the promotion sets the topics right.
    as_copied = [
        replace(topic, broker_time=False, bytes_max=topics.OUTPUT_BYTES_MAX) for topic in topics.TOPICS
    ]
    while True:
        try:
            async with started_writer(target, settings.deployment) as writer:
                await _refuse_promoted(target)
                await ensure_topics(target, on_target, [*as_copied, topics.MIRROR])
                copier = await Copier.begun(source, target, writer, partitions)
                await copier.run()
        except ProducerFenced:
            raise MirrorError(
                "somebody else writes this copy now, or it was promoted: nothing more is copied"
            ) from None
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("the copy waits: %r", error)
            await asyncio.sleep(RETRY_S)


async def _refuse_promoted(target: KafkaConnection) -> None:
    """Raise MirrorError where the copy was promoted; its topics are a deployment's own, and stay as they are."""
    async with started_consumer(target) as asking:
        if topics.MIRROR_STATE not in await asking.topics():
            return
    head = await read_head(target)
    if head is not None and head.is_promoted:
        raise MirrorError(
            f"the topics at {target.servers} were promoted: they are the deployment's own now. To go back, copy them to "
            "another cluster, or to this one once its topics were deleted."
        )


async def read_head(target: KafkaConnection) -> MirrorHead | None:
    """Return what is so of a copy, None where none was begun. Raises NewerFormatError."""
    value = (await read_compacted(target, TopicPartition(*PLACE))).get(HEAD_KEY)
    return None if value is None else progress.decode_head(value)


class Copier:
    """Copies round by round, as long as its writer is the only one."""

    def __init__(
        self,
        source: KafkaConnection,
        writer: MirrorWriter,
        head: MirrorHead,
        translation: Translation,
        begins: dict[TopicPlace, int],
        kept: dict[TopicPlace, int],
        level_ends: dict[TopicPlace, int],
    ) -> None:
        """Take what `begun` has found."""
        self._source, self._writer = source, writer
        self.head, self._translation = head, translation
        self._begins, self._kept, self._level_ends = begins, kept, level_ends

    @classmethod
    async def begun(
        cls, source: KafkaConnection, target: KafkaConnection, writer: MirrorWriter, partitions: int
    ) -> Copier:
        """Return a copier that goes on where the copy ends, or begins one on empty topics. Raises MirrorError."""
        ids = await topic_ids(source, COPIED)
        kept = await read_compacted(target, TopicPartition(*PLACE))
        places = progress.places_of(kept)
        level = [TopicPlace(name, 0) for name in LEVEL]
        if HEAD_KEY in kept:
            head = progress.decode_head(kept[HEAD_KEY])
            _check_source(head.source_ids, ids)
        else:
            await _check_empty(target, partitions)
            head = MirrorHead(source.servers, ids, journal=dict.fromkeys(range(partitions), 1))
        ends = await ends_of(target, [TopicPartition(*place) for place in level])
        level_ends = {place: ends[TopicPartition(*place)] for place in level}
        begins = await _beginnings(source, partitions, places, level_ends)
        next_offsets = {place: of.next_offset for place, of in places.items()}
        translation = Translation(
            await topic_ids(target, NAMED),
            {place: of.offsets() for place, of in places.items() if place.topic in MAPPED},
        )
        copier = cls(source, writer, head, translation, begins, next_offsets, level_ends)
        if HEAD_KEY not in kept:
            # Before anything else: from here on no worker takes the copy for a deployment of its own.
            async with writer.transaction():
                for partition in range(partitions):
                    mark = Copied(COPY_KEY, source.servers.encode())
                    await writer.send(TopicPlace(topics.STATE, partition), [mark])
                await copier.send_head()
        return copier

    async def run(self) -> None:
        """Copy a round, again and again. Raises what Kafka raises."""
        clock = asyncio.get_running_loop().time
        told = None
        async with started_reader(self._source, self._begins) as reader:
            while True:
                began = clock()
                await self.copy_round(reader)
                if told is None or clock() > told + TOLD_EVERY_S:
                    told = clock()
                    log.info(
                        "the copy is as of %d ms since 1970, read in %.1f s",
                        self.head.as_of_ms,
                        clock() - began,
                    )
                await asyncio.sleep(max(0.0, began + ROUND_EVERY_S - clock()))

    async def copy_round(self, reader: MirrorReader) -> None:
        """Copy what has come since the last round, in one transaction; in several where that is very much."""
        while await reader.behind() > BEHIND_OFFSETS:
            await self._write(await reader.chunk(), is_whole=False)
        as_of_ms = int(time.time() * 1000)
        found = await reader.round(self.head.positions)
        for place in self._level_ends:
            at = TopicPartition(*place)
            first, end = self._level_ends[place], found.next_offsets.pop(at)
            await self._writer.send_level(place, first, end, found.records.pop(at))
            self._level_ends[place] = end
        for part in _large_parts(found):
            await self._write(part, is_whole=False)
        self.head.as_of_ms = as_of_ms
        self.head.positions = found.positions
        await self._write(found, is_whole=True)

    async def _write(self, found: MirrorRound, *, is_whole: bool) -> None:
        """Write what was found and how far the copy has come, in one transaction."""
        self.head.is_whole = is_whole
        async with self._writer.transaction():
            # What others name comes first: only then are its offsets known.
            for at, records in sorted(found.records.items(), key=lambda each: each[0].topic in STATES):
                await self._copy(TopicPlace(*at), records)
            changed = []
            for at, next_offset in found.next_offsets.items():
                place = TopicPlace(*at)
                if self._kept.get(place) != next_offset or found.records.get(at):
                    self._kept[place] = next_offset
                    changed.append(
                        progress.place_record(place, next_offset, self._translation.offsets.get(place))
                    )
            await self._writer.send(PLACE, [Copied(*record) for record in changed])
            await self.send_head()

    async def send_head(self) -> None:
        """Send what is so of the whole copy, within a transaction."""
        await self._writer.send(PLACE, [Copied(HEAD_KEY, progress.encode(self.head))])

    async def _copy(self, place: TopicPlace, records: list[ConsumerRecord]) -> None:
        """Copy a partition's records within a transaction, and note where they are."""
        if place.topic in STATES:
            # Of each key the newest is enough, and may name what only this round has copied.
            records = list({record.key: record for record in records}.values())
        copies, offsets = [], []
        for record in records:
            copy = translated(place, record.key, record.value, self._translation)
            if copy is not None:
                copies.append(Copied(*copy, record.headers, record.timestamp))
                offsets.append(record.offset)
        written = await self._writer.send(place, copies)
        if place.topic in MAPPED:
            at = self._translation.at(place)
            for source, target in zip(offsets, written, strict=True):
                at.add(source, target)
        if place.topic == topics.JOURNAL and records:
            self.head.journal[place.partition] = read_headers(records[-1].headers, b"").last + 1
        for record in records:
            for name, offset in read_up_to(place.topic, record.key, record.value).items():
                self._translation.at(TopicPlace(name, place.partition)).forget_before(offset)


def _large_parts(found: MirrorRound) -> Iterator[MirrorRound]:
    """Take account states that are more than one transaction should have out of a round, and return them in parts.

    What tells how far a partition has come stays for the last one.
    """
    for place, records in found.records.items():
        if place.topic != topics.STATE or sum(len(r.value or b"") for r in records) < CHUNK_BYTES:
            continue
        newest = {record.key: record for record in records}
        found.records[place] = [newest.pop(META_KEY)] if META_KEY in newest else []
        part: list[ConsumerRecord] = []
        size = 0
        for record in newest.values():
            part.append(record)
            size += len(record.value or b"")
            if size >= CHUNK_BYTES:
                yield MirrorRound({place: part})
                part, size = [], 0
        yield MirrorRound({place: part})


def _check_source(known: Mapping[str, str], found: Mapping[str, str]) -> None:
    others = sorted(name for name, known_id in known.items() if found.get(name) != known_id)
    if others:
        raise MirrorError(
            f"{', '.join(others)}: the first cluster has other topics under these names than were copied. Nothing was "
            "written. To copy them, delete the second cluster's topics and begin again."
        )


async def _check_empty(target: KafkaConnection, partitions: int) -> None:
    """Raise MirrorError where the second cluster's topics hold anything."""
    places = [
        TopicPartition(topic.name, partition)
        for topic in topics.TOPICS
        for partition in range(partitions if topic.partitioned else 1)
    ]
    full = sorted({place.topic for place, end in (await ends_of(target, places)).items() if end > 0})
    if full:
        raise MirrorError(
            f"{', '.join(full)} at {target.servers} hold records, and no copy was begun there: a copy begins on empty "
            "topics. Nothing was written."
        )


async def _beginnings(
    source: KafkaConnection,
    partitions: int,
    copied: Mapping[TopicPlace, MirroredPlace],
    level_ends: Mapping[TopicPlace, int],
) -> dict[TopicPlace, int]:
    """Return from where each place is copied on. Raises MirrorError where records are gone that were not copied."""
    places = [
        TopicPlace(topic.name, partition)
        for topic in topics.TOPICS
        if topic.name in COPIED
        for partition in range(partitions if topic.partitioned else 1)
    ]
    async with started_consumer(source) as asking:
        begins = await asking.beginning_offsets([TopicPartition(*place) for place in places])
    found = dict(level_ends)
    for place in places:
        begin = begins[TopicPartition(*place)]
        if place not in copied:
            found.setdefault(place, begin)
        elif begin > copied[place].next_offset:
            raise MirrorError(
                f"{place.topic}/{place.partition} begins at {begin} on the first cluster, and was copied up to "
                f"{copied[place].next_offset}: the copy stood still for longer than records are kept. Delete the second "
                "cluster's topics and begin again."
            )
        else:
            found[place] = copied[place].next_offset
    return found
