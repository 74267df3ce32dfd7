"""Carry the spool to Kafka: in order, each partition's events one record after the other.

Owns: the producer, when a record counts as sent, and starting over where that is unclear.
Called by: `gateway/gateway.py`. Before it: `gateway/sending/spool.py`; next: `metering.requests`.

Within a partition the worker takes a number at or below the last one of its source for a duplicate, so
an event must never overtake an earlier one. Therefore a partition has one record under way at a time,
and after any failure nothing further is sent: the producer is dropped, and a new one starts from the
first event that is not acknowledged. What Kafka had got already is sent twice, and charged once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.connection import KafkaConnection, KafkaSettingsError
from pipeline.gateway.errors import GatewayError
from pipeline.gateway.sending.batches import Partitions, Record, lanes
from pipeline.gateway.sending.entry import SpoolEntry
from pipeline.gateway.sending.spool import Cursor, Spool
from pipeline.gateway_book import GatewayKey
from pipeline.kafka import clients
from pipeline.kafka.attempts import attempt, described, within
from pipeline.topics import REQUESTS

log = logging.getLogger(__name__)

RECORD_BYTES = 256 * 1024
"""What a record is filled to: some 500 events, so that compressing one does not hold up the event loop."""
RECORD_BYTES_LIMIT = 900 * 1024
COMPRESSION = "snappy"
"""The cheapest as aiokafka runs them, to write and for the worker to read, above all where records are small:
docs/gateway.md has the figures."""
WINDOW_BYTES = 2 * 1024 * 1024
SEND_LIMIT_S = 15.0
REQUEST_MS_MAX = 5_000
"""A broker that hangs leaves its request unanswered, and time within `SEND_LIMIT_S` to find the new leader."""
STOP_LIMIT_S = 2.0
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)

T = TypeVar("T")


class Unclear(GatewayError):
    """Kafka did not say clearly that it has a record."""


class PartitionsChanged(GatewayError):
    """The topic's partition count is another than the one that waiting events were first sent with."""


class SpoolSender:
    """Sends what the spool holds, for as long as it runs."""

    def __init__(
        self,
        spool: Spool,
        kafka: KafkaConnection,
        options: Mapping[str, Any],
        *,
        linger_ms: int,
        key: GatewayKey | None,
        sent: Callable[[Record, int], None],
        acknowledged: Callable[[list[SpoolEntry]], None],
    ) -> None:
        """Prepare; `key` signs each record, where there is one; `sent` hears of each record and its offset, `acknowledged` of events done with."""
        self._spool, self._kafka, self._options = spool, kafka, options
        self._linger_s, self._key = linger_ms / 1000, key
        self._sent, self._acknowledged = sent, acknowledged
        self._more = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool-reader")
        self._partitions = Partitions(1)
        self._producer: AIOKafkaProducer | None = None
        self.problem: str | None = None
        self.records_sent = 0

    def wake(self) -> None:
        """Say that there is more in the spool."""
        self._more.set()

    async def run(self) -> None:
        """Send until cancelled, starting over after every failure."""
        failures = 0
        while True:
            before = self.records_sent
            try:
                failure = await attempt(
                    self._attempt(), f"sending to {REQUESTS}", expected=(GatewayError, KafkaSettingsError)
                )
            finally:
                await self._disconnect()
            problem = described(failure)
            if problem != self.problem:
                log.warning("sending to %s is interrupted, events wait in the spool: %s", REQUESTS, problem)
            self.problem = problem
            failures = 0 if self.records_sent > before else failures + 1
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])

    async def _attempt(self) -> None:
        await self._connect()
        await self._send_all()

    async def _connect(self) -> None:
        self._producer = clients.producer(
            self._kafka,
            compression_type=COMPRESSION,
            linger_ms=0,
            max_batch_size=RECORD_BYTES_LIMIT,
            max_request_size=2 * RECORD_BYTES_LIMIT,
            request_timeout_ms=REQUEST_MS_MAX,
            **self._options,
        )
        async with asyncio.timeout(SEND_LIMIT_S):
            await self._producer.start()
            count = len(await self._producer.partitions_for(REQUESTS))
        await self._check_partitions(count)
        self._partitions = Partitions(count)

    async def _check_partitions(self, count: int) -> None:
        """Refuse to send waiting events with another count: one that Kafka has already would be charged twice."""
        known = self._spool.identity.partitions
        if known == count:
            return
        waiting, _ = await self._on_disk(partial(self._spool.read, None, 1))
        if known is not None and waiting:
            raise PartitionsChanged(
                f"{REQUESTS} has {count} partitions, the waiting events were sent to {known}: "
                f"restore the topic's partition count"
            )
        await self._on_disk(partial(self._spool.fix_partitions, count))

    async def _send_all(self) -> None:
        cursor: Cursor | None = None
        while True:
            self._more.clear()
            entries, cursor = await self._on_disk(partial(self._spool.read, cursor, WINDOW_BYTES))
            if entries:
                await self._send_window(entries)
                if self.problem is not None:
                    log.info("sending to %s goes on", REQUESTS)
                    self.problem = None
            else:
                self.problem = None
                await self._more.wait()
            # After a window too: while one was under way little has gathered, and each costs a request.
            await asyncio.sleep(self._linger_s)

    async def _send_window(self, entries: list[SpoolEntry]) -> None:
        """Send entries that follow each other in the spool, and acknowledge them all."""
        by_partition = lanes(entries, self._partitions, RECORD_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                for records in by_partition.values():
                    group.create_task(self._send_lane(records))
        except* (KafkaError, OSError, GatewayError, TimeoutError) as failed:
            raise _first(failed) from None
        try:
            await self._on_disk(partial(self._spool.acknowledge, entries[-1].number))
        finally:
            self._acknowledged(entries)

    async def _send_lane(self, records: list[Record]) -> None:
        assert self._producer is not None
        for record in records:
            async with asyncio.timeout(SEND_LIMIT_S):
                value = record.value()
                headers = self._key.headers(value, record.partition) if self._key is not None else []
                delivery = await self._producer.send(
                    REQUESTS, value, key=record.key, partition=record.partition, headers=headers
                )
                metadata = await delivery
            if metadata is None or metadata.offset < 0:
                raise Unclear(f"{REQUESTS}/{record.partition}: no offset in the broker's answer")
            self.records_sent += 1
            self._sent(record, metadata.offset)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _abandon(producer)

    def close(self) -> None:
        """End the reading thread, after `run` has ended; waits for what it is doing."""
        self._disk.shutdown()


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Stop a producer without waiting for what it still has under way."""
    # An idempotent producer tries for ever, and its own stop waits for that; nothing public ends it.
    sender = getattr(producer, "_sender", None)
    task: asyncio.Task[None] | None = getattr(sender, "sender_task", None)
    await within(STOP_LIMIT_S, producer.stop())
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=STOP_LIMIT_S)
        await within(STOP_LIMIT_S, producer.client.close())
