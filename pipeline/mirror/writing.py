"""The one writer of a copy: its transactions, which keep time stamps, and the topics that are copied to the same offsets.

Owns: the producers on the second cluster. Called by: `mirror/copier.py` and `mirror/promotion.py`.

A later writer ends this one, by the broker's fencing of the transactional id `DEPLOYMENT-mirror`, as in `kafka/fenced.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.producer.message_accumulator import BatchBuilder

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import producer
from pipeline.steps import Headers, TopicPlace
from pipeline.topics import OUTPUT_BYTES_MAX, OWNER_KEY

BATCH_BYTES = 1024 * 1024
TRANSACTION_TIMEOUT_MS = 60_000
LIMIT_S = 55.0


class MirrorError(Exception):
    """The copy cannot be written or used. The message says why and what to do."""


@dataclass(frozen=True)
class Copied:
    """A record to write, with the time stamp that it has on the first cluster, in milliseconds; None for now."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class MirrorWriter:
    """Writes a copy, as long as no later one does."""

    def __init__(self, transactional: AIOKafkaProducer, plain: AIOKafkaProducer) -> None:
        """Take started producers: see `started_writer`."""
        self._transactional, self._plain = transactional, plain

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make all that is sent in the block happen or nothing. After an error the writer is of no more use."""
        async with asyncio.timeout(LIMIT_S):
            await self._transactional.begin_transaction()
            yield
            await self._transactional.commit_transaction()

    async def send(self, place: TopicPlace, records: Sequence[Copied]) -> list[int]:
        """Send records within a transaction and return the offset that each has got."""
        offsets: list[int] = []
        for count, batch in self._batches(records):
            sent = await self._transactional.send_batch(batch, place.topic, partition=place.partition)
            first = (await sent).offset
            offsets += range(first, first + count)
        return offsets

    def _batches(self, records: Iterable[Copied]) -> Iterator[tuple[int, BatchBuilder]]:
        batch, count = self._transactional.create_batch(), 0
        for record in records:
            while True:
                full = batch.append(
                    timestamp=record.timestamp_ms,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                )
                if full is not None:
                    break
                yield count, batch
                batch, count = self._transactional.create_batch(), 0
            count += 1
        if count:
            yield count, batch

    async def send_level(
        self, place: TopicPlace, first: int, end: int, records: Sequence[ConsumerRecord]
    ) -> None:
        """Write the offsets from `first` to before `end`: records to their own, what means nothing between them.

        Outside of transactions, whose markers would take offsets. Raises MirrorError where an offset is another one.
        """
        by_offset = {record.offset: record for record in records}
        sent = []
        for offset in range(first, end):
            record = by_offset.get(offset)
            key, value = (OWNER_KEY, None) if record is None else (record.key, record.value)
            sent.append(
                await self._plain.send(
                    place.topic,
                    value,
                    key,
                    place.partition,
                    timestamp_ms=None if record is None else record.timestamp,
                    headers=[] if record is None else list(record.headers),
                )
            )
        for offset, metadata in zip(range(first, end), await asyncio.gather(*sent), strict=True):
            if metadata.offset != offset:
                raise MirrorError(
                    f"{place.topic}: the record {offset} was written at {metadata.offset}: somebody else writes to the copy. "
                    "End him, delete the copy's topics, and begin again."
                )


@asynccontextmanager
async def started_writer(target: KafkaConnection, deployment: str) -> AsyncIterator[MirrorWriter]:
    """Become the one writer of a deployment's copy for as long as the block runs. Raises a KafkaError or TimeoutError."""
    transactional = producer(
        target,
        transactional_id=f"{deployment}-mirror",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_batch_size=BATCH_BYTES,
        max_request_size=OUTPUT_BYTES_MAX + 65_536,
        compression_type="zstd",
        linger_ms=0,
    )
    plain = producer(target, linger_ms=0)
    try:
        async with asyncio.timeout(LIMIT_S):
            await transactional.start()
            await plain.start()
        yield MirrorWriter(transactional, plain)
    finally:
        for each in (transactional, plain):
            await _stop(each)


async def _stop(each: AIOKafkaProducer) -> None:
    """Disconnect without waiting for long: what was not committed is aborted by the next writer."""
    try:
        async with asyncio.timeout(5):
            await each.stop()
    except TimeoutError:
        return
