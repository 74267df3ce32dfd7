"""A partition's transactional log: one writer at a time, by the broker's own fencing.

Owns: fencing the previous owner, restoring a state topic, and committing one unit of work as one Kafka
transaction. Every wait has a limit, as the futures of a fenced producer may never resolve.
Called by: `worker/partition.py`, `sink/partition.py`, `kafka/outgoing.py`, `operations/redrive.py`.

Starting a producer with a transactional id ends every earlier producer of that id, and aborts what it
had open (KIP-98), so after `start` nobody else can write, and what `restore` reads is the whole truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from pipeline.connection import KafkaConnection
from pipeline.crashpoints import reach
from pipeline.kafka.bounded import read_to_end
from pipeline.kafka.clients import producer
from pipeline.steps import Output, Outputs, TopicPlace
from pipeline.topics import OUTPUT_BYTES_MAX, OWNER_KEY

BATCH_BYTES = 1024 * 1024
TRANSACTION_TIMEOUT_MS = 60_000
DEFAULT_LIMIT_S = 40.0
"""So long a commit may take. A broker that hangs is given up by its cluster after 9 s; a client learns who leads instead once a
request of its own went unanswered, and may ask the broker that hangs for that, again and again with three brokers in one
case of three."""
REQUEST_MS_MAX = 5_000
_APPEND_TIME = 1


class FencedLog:
    """The one writer of a partition under a transactional id, and the reader of its state topic."""

    def __init__(
        self,
        kafka: KafkaConnection,
        transactional_id: str,
        *,
        role: str = "",
        limit_s: float = DEFAULT_LIMIT_S,
    ) -> None:
        """Prepare; nothing is connected before `start`. `role` names the crash points."""
        self._role = role
        self._kafka = kafka
        self._limit_s = limit_s
        self._error: Exception | None = None
        self._producer = producer(
            kafka,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=OUTPUT_BYTES_MAX + 65_536,
            # aiokafka runs lz4 at its slowest level: that costs several times the CPU of zstd, for larger batches.
            compression_type="zstd",
            linger_ms=0,
            request_timeout_ms=REQUEST_MS_MAX,
            retry_backoff_ms=20,
        )

    async def start(self) -> None:
        """Fence the previous owner and abort what it had open. Raises TimeoutError or a KafkaError."""
        async with asyncio.timeout(self._limit_s * 2):
            await self._producer.start()
        reach(f"{self._role}.fenced")

    async def restore(self, topic: str, partition: int) -> dict[bytes, bytes]:
        """Return the newest value of each key of a state topic's partition, deleted keys left out.

        Only committed records count. To be called after `start`, when nobody else can write any more.
        """
        return await read_compacted(self._kafka, TopicPartition(topic, partition))

    async def commit(self, outputs: Outputs) -> None:
        """Write the outputs in one transaction.

        When this returns the transaction is committed. When it raises, the outcome may be unknown, and only `start`
        and `restore` of a new log tell: this one raises the same for all that follows.
        """
        await self._commit(outputs)

    async def confirm_owner(self, place: TopicPlace) -> int | None:
        """Return if nobody has started a log of this id since; raises ProducerFenced where somebody has.

        `place` is a compacted partition that belongs to this log's owner. Returned is the time of the broker in
        milliseconds, None where the topic is not one whose time stamps are the broker's (LogAppendTime).
        """
        [written] = await self._commit({place: [Output(OWNER_KEY, None)]})
        return int(written.timestamp) if written.timestamp_type == _APPEND_TIME else None

    async def _commit(self, outputs: Outputs) -> list[RecordMetadata]:
        if self._error is not None:
            raise self._error
        try:
            async with asyncio.timeout(self._limit_s):
                await self._producer.begin_transaction()
                writes = [self._write(where, records) for where, records in outputs.items() if records]
                written = await asyncio.gather(*writes)
                reach(f"{self._role}.sent")
                await self._producer.commit_transaction()
        except BaseException as error:
            self._error = error if isinstance(error, Exception) else KafkaError("a commit was broken off")
            raise
        return [metadata for of_place in written for metadata in of_place]

    async def _write(self, where: TopicPlace, records: Sequence[Output]) -> list[RecordMetadata]:
        # One after the other: batches of a partition are sent in order, and the next is not built before.
        futures = [
            await self._producer.send_batch(batch, where.topic, partition=where.partition)
            for batch in self._batches(records)
        ]
        return await asyncio.gather(*futures)

    def _batches(self, records: Iterable[Output]) -> Iterable[BatchBuilder]:
        batch = self._producer.create_batch()
        for record in records:
            full = batch.append(
                timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
            )
            if full is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
        yield batch

    async def close(self) -> None:
        """Disconnect, without waiting for long: what was not committed is aborted by the next owner."""
        try:
            async with asyncio.timeout(5):
                await self._producer.stop()
        except TimeoutError:
            return
        finally:
            _note_as_told(self._producer)


def _note_as_told(producer: AIOKafkaProducer) -> None:
    """Note of what ended a producer that it was told: `commit` has raised it.

    aiokafka keeps the same in futures that nobody waits for, and asyncio would print each as an error that nobody has seen.
    """
    # aiokafka has no other way in.
    waiting = [producer._txn_manager.wait_for_transaction_end()]  # noqa: SLF001
    for batches in producer._message_accumulator._batches.values():  # noqa: SLF001
        waiting += [batch._drain_waiter for batch in batches]  # noqa: SLF001
    for future in waiting:
        if future is not None and future.done() and not future.cancelled():
            future.exception()


async def read_compacted(kafka: KafkaConnection, where: TopicPartition) -> dict[bytes, bytes]:
    """Return the newest committed value of each key up to the end of a partition as it is now."""
    found: dict[bytes, bytes] = {}
    async for records in read_to_end(kafka, where):
        for record in records:
            if record.value is None:
                found.pop(record.key, None)
            else:
                found[record.key] = record.value
    return found
