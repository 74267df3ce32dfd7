"""Set a record aside that ends its worker, so that the next owner of its partition does not look into it.

Owns: which records can be set aside, and writing their marks. Needs no worker that lives.
Called by: `cli/quarantine.py`. Next: `posting/set_aside.py` has the marks, `posting/unit.py` makes the dead letter.
"""

from __future__ import annotations

import asyncio

from aiokafka import ConsumerRecord, TopicPartition
from msgspec import Struct

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import FETCH, last_of_key
from pipeline.kafka.clients import started_consumer, started_producer
from pipeline.kafka.partitions import partition_count
from pipeline.posting.set_aside import key_of
from pipeline.posting.state import META_KEY, next_offsets
from pipeline.posting.unit import DETAIL_CHARS

LIMIT_S = 20.0


class NotSetAsideError(Exception):
    """The record is not there, or needs no setting aside; the message says which."""


class Quarantined(Struct):
    """A record that was set aside: where it is, how many bytes it has, and why."""

    topic: str
    partition: int
    offset: int
    bytes: int
    reason: str


async def quarantine(kafka: KafkaConnection, place: TopicPartition, offset: int, reason: str) -> Quarantined:
    """Mark a record, so that the next owner of its partition moves it to the dead letters.

    A worker that owns the partition now does not look; it would end at the record. Raises NotSetAsideError where the
    record is not there or is posted already, and what Kafka raises.
    """
    partitions = await partition_count(kafka)
    if place.topic not in topics.INPUTS:
        raise NotSetAsideError(f"{place.topic} is no topic that workers read: {', '.join(topics.INPUTS)}")
    if not 0 <= place.partition < partitions:
        raise NotSetAsideError(
            f"{place.topic} has the partitions 0 to {partitions - 1}, not {place.partition}"
        )
    if not reason.strip() or len(reason) > DETAIL_CHARS:
        raise NotSetAsideError(f"the reason has 1 to {DETAIL_CHARS} characters")
    record = await _record(kafka, place, offset)
    await _refuse_posted(kafka, place, offset)
    await _write(kafka, place.partition, key_of(place.topic, offset), reason.encode())
    try:
        await _refuse_posted(kafka, place, offset)
    except NotSetAsideError:
        await _write(kafka, place.partition, key_of(place.topic, offset), None)
        raise
    return Quarantined(place.topic, place.partition, offset, len(record.value or b""), reason)


async def _record(kafka: KafkaConnection, place: TopicPartition, offset: int) -> ConsumerRecord:
    """Return the record at an offset. Raises NotSetAsideError where there is none."""
    async with started_consumer(kafka, **FETCH) as consumer, asyncio.timeout(LIMIT_S):
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        if not begin <= offset < end:
            raise NotSetAsideError(f"{place.topic}/{place.partition} has the offsets {begin} to {end - 1}")
        consumer.seek(place, offset)
        while await consumer.position(place) <= offset:
            batches = await consumer.getmany(place, timeout_ms=500, max_records=1)
            for record in batches.get(place, ()):
                if record.offset == offset:
                    return record
    raise NotSetAsideError(
        f"{place.topic}/{place.partition} has no record at {offset}: a transaction's marker is there, what a producer has "
        "aborted, or a batch that is passed as one record, by its last offset"
    )


async def _refuse_posted(kafka: KafkaConnection, place: TopicPartition, offset: int) -> None:
    """Raise NotSetAsideError where the partition's state is past a record."""
    at = (await _state_offsets(kafka, place.partition)).get(place.topic, 0)
    if offset < at:
        raise NotSetAsideError(
            f"{place.topic}/{place.partition} is posted up to {at - 1}: {offset} is a part of the books, or a dead letter"
        )


async def _state_offsets(kafka: KafkaConnection, partition: int) -> dict[str, int]:
    """Return the next offset of each input, by the newest committed state of a partition; nothing before the first."""
    meta = await last_of_key(kafka, TopicPartition(topics.STATE, partition), META_KEY)
    return {} if meta is None else next_offsets(meta)


async def _write(kafka: KafkaConnection, partition: int, key: bytes, value: bytes | None) -> None:
    # No transaction: one left open would hide what the owner commits after it.
    async with asyncio.timeout(LIMIT_S), started_producer(kafka) as writing:
        await writing.send_and_wait(topics.STATE, value, key, partition)
