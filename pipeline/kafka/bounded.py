"""Read a partition up to its end as it is now, then stop.

Owns: the bounded read, committed records only, and asking for ends.
Called by: whoever restores, verifies or replays. `kafka/follow.py` is for what never stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from aiokafka import ConsumerRecord, TopicPartition

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_consumer
from pipeline.steps import Headers
from pipeline.topics import OUTPUT_BYTES_MAX

KEY_BACK = 64
"""So many of the last offsets are looked through first for a key that is written all the time."""
MARKER_TRIES, MARKER_WAIT_S = 20, 0.5
"""How often, and after how long, the end of a partition is asked for again where the marker of a transaction is still to come."""
FETCH = {"max_partition_fetch_bytes": OUTPUT_BYTES_MAX, "fetch_max_bytes": 2 * OUTPUT_BYTES_MAX}


async def read_to_end(
    kafka: KafkaConnection, where: TopicPartition, *, last: int | None = None, start: int = 0
) -> AsyncGenerator[Sequence[ConsumerRecord]]:
    """Yield the committed records of a partition in batches: from the offset `start` on, or those of the `last` offsets.

    Aborted records and the markers of transactions take offsets too, and are left out.
    """
    async with started_consumer(kafka, **FETCH) as consumer:
        consumer.assign([where])
        begin = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
        consumer.seek(where, max(begin, start if last is None else end - last))
        while await consumer.position(where) < end:
            records = (await consumer.getmany(where, timeout_ms=500)).get(where)
            if records:
                yield records


async def read_until(
    kafka: KafkaConnection, where: TopicPartition, is_enough: Callable[[], bool], *, start: int = 0
) -> AsyncGenerator[Sequence[ConsumerRecord]]:
    """Yield the committed records from an offset on until there are enough, of what is known to be committed.

    A transaction is acknowledged, and seen in one of its partitions, before its marker is in each of them; and nobody reads past
    the place where one is lacking. So the end is asked for again for some seconds. Ends without enough then.
    """
    for _ in range(MARKER_TRIES):
        async for records in read_to_end(kafka, where, start=start):
            start = records[-1].offset + 1
            yield records
        if is_enough():
            return
        await asyncio.sleep(MARKER_WAIT_S)


async def records_at(kafka: KafkaConnection, where: TopicPartition, offsets: Iterable[int]) -> list[bytes]:
    """Return the values of the records at some offsets of a partition. Raises KeyError for one where there is none."""
    values = []
    async with started_consumer(kafka, **FETCH) as consumer:
        consumer.assign([where])
        end = (await consumer.end_offsets([where]))[where]
        for offset in offsets:
            consumer.seek(where, offset)
            found: ConsumerRecord | None = None
            while found is None and await consumer.position(where) < end:
                batches = await consumer.getmany(where, timeout_ms=500, max_records=1)
                found = next(iter(batches.get(where, ())), None)
            if found is None or found.offset != offset or found.value is None:
                raise KeyError(f"{where.topic}/{where.partition} has no record at {offset}")
            values.append(found.value)
    return values


async def ends_of(kafka: KafkaConnection, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the end of each partition: the offset after its last committed record or marker."""
    async with started_consumer(kafka) as consumer:
        return {place: int(end) for place, end in (await consumer.end_offsets(list(places))).items()}


async def last_committed(kafka: KafkaConnection, where: TopicPartition) -> ConsumerRecord | None:
    """Return the last committed record of a partition, None where there is none."""
    return await _last(kafka, where, 2, lambda _record: True)


async def last_of_key(kafka: KafkaConnection, where: TopicPartition, key: bytes) -> bytes | None:
    """Return the newest committed value of a key, looked for from the end of a partition; None where there is none."""
    last = await newest_of_key(kafka, where, key)
    return None if last is None else last.value


async def newest_of_key(kafka: KafkaConnection, where: TopicPartition, key: bytes) -> ConsumerRecord | None:
    """Return the newest committed record of a key, as `last_of_key` its value."""
    return await _last(kafka, where, KEY_BACK, lambda record: record.key == key)


async def _last(
    kafka: KafkaConnection, where: TopicPartition, back: int, is_wanted: Callable[[ConsumerRecord], bool]
) -> ConsumerRecord | None:
    """Return the newest committed record that is wanted, looked for among the last `back` offsets first."""
    end = (await ends_of(kafka, [where]))[where]
    while True:
        found = None
        async for records in read_to_end(kafka, where, last=back):
            found = next(filter(is_wanted, reversed(records)), found)
        if found is not None or back >= end:
            return found
        # What is aborted, or of other keys, stands between: look further back.
        back *= 8


async def last_headers(kafka: KafkaConnection, where: TopicPartition) -> Headers | None:
    """Return the headers of the last committed record of a partition, None where there is none."""
    last = await last_committed(kafka, where)
    return None if last is None else last.headers
