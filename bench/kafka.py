"""Fill topics as fast as can be, and watch how far a consumer group has come.

Owns: raw publishing of values and of whole states; the progress of a group by its committed offsets.
Called by: the benchmarks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from bench.processes import Process
from pipeline import topics
from pipeline.accounts.keys import hash_key
from pipeline.accounts.model import Key, KeyUsage, Profile
from pipeline.gateway.sending.sender import COMPRESSION
from pipeline.money import NANO_PER_RUPEE
from pipeline.posting.state import PartitionState

Pair = tuple[bytes | None, bytes | None]
Headers = list[tuple[str, bytes]]
BATCH_BYTES = 1024 * 1024
CREDIT_NANO = 1_000_000 * NANO_PER_RUPEE


class Filler:
    """Writes records straight into partitions, compressed as the gateway library does."""

    def __init__(self, servers: str) -> None:
        """Prepare; `async with` connects."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            enable_idempotence=True,
            acks="all",
            compression_type=COMPRESSION,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * BATCH_BYTES,
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect; everything is written by then."""
        await self._producer.stop()

    async def fill(
        self,
        topic: str,
        partition: int,
        records: Iterable[Pair],
        headers_of: Callable[[bytes | None], Headers] = lambda _value: [],
    ) -> int:
        """Write records to a partition and return how many, once the broker has them."""
        batch, count, waiting = self._producer.create_batch(), 0, []
        for key, value in records:
            headers = headers_of(value)
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
            count += 1
        if batch.record_count():
            waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*waiting)
        return count

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        """Write one record and return once the broker has it."""
        await self._producer.send_and_wait(topic, value, partition=partition)


def state_records(partition: int, partitions: int, orgs: Sequence[str], keys: int = 0) -> Iterable[Pair]:
    """Return the state of a partition whose orgs have credit, in the product's own encoding.

    Each has `keys` registered keys, which have been used on three days of two months.
    """
    state = PartitionState(partition, partitions)
    for org in orgs:
        account = state.account(org)
        account.spending.credited_nano = CREDIT_NANO
        account.spending.verdict_nano = CREDIT_NANO
        own = [_key(f"{org}_key_{n}") for n in range(keys)]
        account.profile = Profile(org, f"owner@{org}.example.in", 1, {key.key_id: key for key in own})
        for key in own:
            account.spending.keys[key.key_id] = KeyUsage(
                {202511: 10**11, 202510: 10**11}, {20_400: 120, 20_399: 80, 20_398: 95}
            )
        yield from state.save_account(account, profile_too=True)
    yield state.save_meta()


def _key(key_id: str) -> Key:
    return Key(key_id, "production", f"br-{key_id[-9:]}", hash_key(key_id), "standard", 1, 10**15)


@dataclass(frozen=True)
class Sample:
    """How far a group was at a moment, and what its process had cost by then."""

    at_s: float
    cpu_s: float
    records: int


async def run_out(
    servers: str,
    group: str,
    places: Sequence[TopicPartition],
    process: Process,
    *,
    ready_words: str = "",
    limit_s: float = 180,
) -> list[Sample]:
    """Return samples until the group has committed everything, from its first commit on.

    With `ready_words`, the first sample is taken when the process has said them once a partition. A worker's
    offsets follow what it has done by up to 0.2 s (`pipeline/kafka/offsets.py`).

    Raises RuntimeError where the process ends, TimeoutError at the limit.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await consumer.start()
    await admin.start()
    samples: list[Sample] = []
    try:
        wanted = sum((await consumer.end_offsets(list(places))).values())
        async with asyncio.timeout(limit_s):
            while ready_words and not samples:
                process.check()
                if process.log.read_text().count(ready_words) >= len(places):
                    samples.append(Sample(time.monotonic(), process.cpu_s, 0))
                await asyncio.sleep(0.005)
            while not samples or samples[-1].records < wanted:
                process.check()
                done = await _committed(admin, group, places)
                if done and (not samples or done > samples[-1].records):
                    samples.append(Sample(time.monotonic(), process.cpu_s, done))
                await asyncio.sleep(0.02)
    finally:
        await admin.close()
        await consumer.stop()
    return samples


async def _committed(admin: AIOKafkaAdminClient, group: str, places: Sequence[TopicPartition]) -> int:
    """Return how many records the group has committed, 0 before there is a group."""
    try:
        there = await admin.list_consumer_group_offsets(group, partitions=list(places))
    except GroupCoordinatorNotAvailableError:
        return 0
    return sum(max(0, found.offset) for found in there.values())


def requests_places(partitions: int) -> list[TopicPartition]:
    """Return all partitions of `metering.requests`."""
    return [TopicPartition(topics.REQUESTS, p) for p in range(partitions)]
