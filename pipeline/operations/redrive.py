"""Charge dead letters that can be charged now: each once, whenever this is interrupted.

Owns: taking the redriver's steps with a real Kafka, and waiting until the workers have charged what was redriven.
Called by: `cli/redrive.py`.
Next: `posting/redriving.py` has the steps in their order and decides; the worker charges what is moved.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import assert_never

from aiokafka import TopicPartition

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.driving import drive
from pipeline.kafka.bounded import last_committed, read_to_end
from pipeline.kafka.catalog import read_rates
from pipeline.kafka.clients import started_consumer
from pipeline.kafka.commands import CommandClient, UnavailableError
from pipeline.kafka.extent import check_ends
from pipeline.kafka.fenced import FencedLog
from pipeline.kafka.partitions import partition_count
from pipeline.posting import redriving
from pipeline.posting.redriving import Letter, NextLetters, Redriven, RedriveStep
from pipeline.settings import Settings
from pipeline.steps import Commit, Fence, Now, Restore

log = logging.getLogger(__name__)

CHARGED_LIMIT_S = 60.0
ASK_AGAIN_S = 0.1


class NotYetChargedError(Exception):
    """The letters are redriven, but no worker has charged them yet."""


async def redrive(
    settings: Settings, *, too_late: bool, leaps: bool = False, unsigned: bool = False
) -> Redriven:
    """Redrive what can be charged now and return when it is charged.

    Raises NotYetChargedError where no worker does that in time, InputShortenedError where the letters are not those that
    were read before, and what Kafka raises.
    """
    kafka, client = settings.kafka, CommandClient(settings.kafka, settings.command_keys)
    partitions = await partition_count(kafka)
    rates = await read_rates(kafka)
    fenced = FencedLog(kafka, f"{settings.deployment}-redrive", role="redrive")
    try:
        steps = _Steps(fenced, partial(_letters, kafka, partitions))
        redriver = redriving.redrive(rates, partitions, too_late=too_late, leaps=leaps, unsigned=unsigned)
        report = await drive(redriver, steps.take)
    finally:
        await fenced.close()
    if report.redriven:
        await _charged(client, await _moved(kafka, partitions))
    return report


class _Steps:
    """Takes the redriver's steps."""

    def __init__(
        self, fenced: FencedLog, read: Callable[[Mapping[int, int]], AsyncIterator[Sequence[Letter]]]
    ) -> None:
        self._log, self._read = fenced, read
        self._letters: AsyncIterator[Sequence[Letter]] | None = None

    async def take(self, step: RedriveStep) -> object:
        """Take a step of the protocol and return its answer."""
        match step:
            case Fence():
                await self._log.start()
            case Restore(place):
                return step.answered(await self._log.restore(place.topic, place.partition))
            case NextLetters(starts):
                self._letters = self._letters or self._read(starts)
                return step.answered(await anext(self._letters, None))
            case Now():
                return step.answered(time.time_ns() // 1_000_000)
            case Commit():
                await self._log.commit(step.outputs)
            case _:
                assert_never(step)
        return None


async def _letters(
    kafka: KafkaConnection, partitions: int, starts: Mapping[int, int]
) -> AsyncIterator[Sequence[Letter]]:
    """Yield the dead letters there are, partition by partition, some at a time; from these offsets on.

    Raises InputShortenedError where the topic ends below one: it is not the one that was read.
    """
    places = {TopicPartition(topics.DEAD_LETTERS, p): offset for p, offset in starts.items()}
    if places:
        async with started_consumer(kafka) as consumer:
            await check_ends(consumer, places)
    for partition in range(partitions):
        place = TopicPartition(topics.DEAD_LETTERS, partition)
        async for records in read_to_end(kafka, place, start=starts.get(partition, 0)):
            yield [Letter(partition, r.offset, r.value or b"", r.headers) for r in records]


async def _charged(client: CommandClient, redriven: Mapping[int, int]) -> None:
    """Return when the owners have posted all moved records below these offsets, by partition."""
    await client.start()
    try:
        async with asyncio.timeout(CHARGED_LIMIT_S):
            while True:
                try:
                    reached = await client.barrier()
                except UnavailableError as error:
                    log.info("waiting for the owners of all partitions: %s", error)
                else:
                    if all(each.moved_offset >= redriven.get(each.partition, 0) for each in reached):
                        return
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        raise NotYetChargedError(
            "the dead letters are redriven, but not charged yet: is a worker running?"
        ) from None
    finally:
        await client.stop()


async def _moved(kafka: KafkaConnection, partitions: int) -> dict[int, int]:
    """Return the offset after the last committed moved record of each partition that has one."""
    found: dict[int, int] = {}
    for partition in range(partitions):
        last = await last_committed(kafka, TopicPartition(topics.MOVED, partition))
        if last is not None:
            found[partition] = last.offset + 1
    return found
