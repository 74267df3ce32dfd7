"""Charge dead letters that can be charged now: each once, whenever this is interrupted.

Owns: which letters were redriven before, and publishing the others to `metering.moved` together with that.
Called by: `cli/redrive.py`. Next: `posting/redriving.py` decides; the worker charges what is moved.

A letter's mark and its copy on `metering.moved` are written in one fenced transaction, so a letter is
either redriven or not, and two operators cannot redrive it twice. The letter itself stays where it is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.bounded import ends_of, read_to_end
from pipeline.kafka.catalog import read_rates
from pipeline.kafka.clients import started_admin
from pipeline.kafka.fenced import FencedLog, Output
from pipeline.kafka.partitions import partition_count
from pipeline.partitioning import partition_of
from pipeline.posting.redriving import chargeable
from pipeline.settings import Settings

STATE_PLACE = TopicPartition(topics.REDRIVE_STATE, 0)
LETTERS_A_TRANSACTION = 1_000
CHARGED_LIMIT_S = 60.0


class NotYetChargedError(Exception):
    """The letters are redriven, but no worker has charged them yet."""


@dataclass
class Redriven:
    """How many letters were redriven now and earlier, and how many stay, by reason."""

    redriven: int = 0
    earlier: int = 0
    left: Counter[str] = field(default_factory=Counter)


async def redrive(settings: Settings, *, too_late: bool) -> Redriven:
    """Redrive what can be charged now and return when it is charged.

    Raises NotYetChargedError where no worker does that in time, and what Kafka raises.
    """
    kafka = settings.kafka
    partitions = await partition_count(kafka)
    rates = await read_rates(kafka)
    fenced = FencedLog(kafka, f"{settings.deployment}-redrive", role="redrive")
    await fenced.start()
    try:
        done = set(await fenced.restore(STATE_PLACE.topic, STATE_PLACE.partition))
        report = Redriven()
        batch: list[tuple[bytes, int, Output]] = []
        async for letter in _letters(kafka, partitions):
            mark = f"{letter.partition}-{letter.offset}".encode()
            headers = dict(letter.headers)
            reason = headers.get("reason", b"").decode()
            now_ms = time.time_ns() // 1_000_000
            event = chargeable(letter.value or b"", reason, rates, now_ms, too_late=too_late)
            if mark in done:
                report.earlier += 1
            elif event is None:
                report.left[reason] += 1
            else:
                output = Output(None, letter.value, [*letter.headers, ("redriven", mark)])
                batch.append((mark, partition_of(event.subject, partitions), output))
            if len(batch) == LETTERS_A_TRANSACTION:
                report.redriven += await _publish(fenced, batch)
                batch = []
        report.redriven += await _publish(fenced, batch)
    finally:
        await fenced.close()
    if report.redriven:
        await _charged(settings, partitions)
    return report


async def _publish(fenced: FencedLog, batch: list[tuple[bytes, int, Output]]) -> int:
    outputs: dict[TopicPartition, list[Output]] = defaultdict(list)
    for mark, partition, output in batch:
        outputs[STATE_PLACE].append(Output(mark, b"1"))
        outputs[TopicPartition(topics.MOVED, partition)].append(output)
    if batch:
        await fenced.commit(outputs)
    return len(batch)


async def _letters(kafka: KafkaConnection, partitions: int) -> AsyncIterator[ConsumerRecord]:
    """Yield every dead letter there is, partition by partition."""
    for partition in range(partitions):
        async for records in read_to_end(kafka, TopicPartition(topics.DEAD_LETTERS, partition)):
            for record in records:
                yield record


async def _charged(settings: Settings, partitions: int) -> None:
    """Return when the workers have posted every moved record there is now."""
    places = [TopicPartition(topics.MOVED, partition) for partition in range(partitions)]
    ends = await ends_of(settings.kafka, places)
    deadline = time.monotonic() + CHARGED_LIMIT_S
    async with started_admin(settings.kafka) as admin:
        while time.monotonic() < deadline:
            posted = await admin.list_consumer_group_offsets(f"{settings.deployment}-worker")
            # The last offset of a transaction is its marker, which nobody reads.
            behind = [p for p, end in ends.items() if end and (p not in posted or posted[p].offset < end - 1)]
            if not behind:
                return
            await asyncio.sleep(0.1)
    raise NotYetChargedError("the dead letters are redriven, but not charged yet: is a worker running?")
