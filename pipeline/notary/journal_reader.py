"""What the notary asks of Kafka: the journal from where it was taken, how far its writers have posted, the rates.

Owns: these reads, and that the journal is read through `journal/records.py` like everywhere.
Called by: `notary/notary.py`. Next: `kafka/bounded.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.identity import DeploymentIdentity, of_headers
from pipeline.journal import JournalRecord, Row, decode_rows, read_headers
from pipeline.kafka.bounded import last_of_key, read_to_end
from pipeline.kafka.catalog import read_rates
from pipeline.notary.chain import HashOfRate, UnknownRateError, hash_of_rates, rate_line
from pipeline.notary.day import OpenDay, PostedUpTo
from pipeline.posting.state import META_KEY, read_meta


class JournalReader:
    """Reads for a day's books, a partition at a time."""

    def __init__(self, kafka: KafkaConnection, partitions: int) -> None:
        """Prepare; each read connects for itself."""
        self._kafka, self._partitions = kafka, partitions
        self._hash_of_rate: HashOfRate = hash_of_rates({})

    @property
    def partitions(self) -> range:
        """The partitions of the journal."""
        return range(self._partitions)

    async def first(self, partition: int) -> tuple[Row, DeploymentIdentity | None] | None:
        """Return the first row of a partition and whose it is; None where there is none."""
        async with aclosing(self._records(partition, 0)) as found:
            async for record, _, identity in found:
                return decode_rows(record)[0], identity
        return None

    async def posted(self) -> dict[int, PostedUpTo]:
        """Return how far each partition's owner has posted; a partition that never had one is left out."""
        found = {}
        for partition in self.partitions:
            meta = await last_of_key(self._kafka, TopicPartition(topics.STATE, partition), META_KEY)
            if meta is not None:
                read = read_meta(meta)
                found[partition] = PostedUpTo(read.position, read.posted_ms)
        return found

    async def take(self, day: OpenDay) -> None:
        """Have a day take all there is of it now. Raises NotaryError, UnknownRateError and JournalFormatError."""
        for partition in self.partitions:
            if partition not in day.done:
                await self._take(day, partition)

    async def _take(self, day: OpenDay, partition: int) -> None:
        async with aclosing(self._records(partition, day.read[partition].offset)) as found:
            async for record, offset, _ in found:
                try:
                    more = day.take(partition, record, offset, self._hash_of_rate)
                except UnknownRateError:
                    # What a row was charged by was in the catalog before it, so it is there now.
                    rates = await read_rates(self._kafka)
                    self._hash_of_rate = hash_of_rates(
                        {(rate.model, rate.provider, rate.from_ms): rate_line(rate) for rate in rates}
                    )
                    more = day.take(partition, record, offset, self._hash_of_rate)
                if not more:
                    return
                await asyncio.sleep(0)

    async def _records(
        self, partition: int, offset: int
    ) -> AsyncGenerator[tuple[JournalRecord, int, DeploymentIdentity | None]]:
        """Yield the journal's records of a partition from an offset on, each with its own and whose it is."""
        where = TopicPartition(topics.JOURNAL, partition)
        async with aclosing(read_to_end(self._kafka, where, start=offset)) as batches:
            async for records in batches:
                for record in records:
                    yield (
                        read_headers(record.headers, record.value),
                        record.offset,
                        of_headers(record.headers),
                    )
