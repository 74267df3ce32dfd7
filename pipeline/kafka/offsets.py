"""Write a group's offsets for tools that show its lag: they follow what is done, a moment later.

Owns: when a group's offsets are written, and trying again.
Called by: `kafka/reader.py`.

Nothing of ours decides by these offsets, in no group: where a partition is read from, its owner's state says. So
they are no part of a transaction, which would wait for two more requests and for a second coordinator.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

EVERY_S = 0.2
AGAIN_S = 2.0
LIMIT_S = 2.0


class GroupOffsets:
    """The offsets of a member's partitions on their way to the broker."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """Prepare to write the offsets of a member of a group; `run` writes them."""
        self._consumer = consumer
        self._due: dict[TopicPartition, int] = {}
        self._written: dict[TopicPartition, int] = {}
        self._more = asyncio.Event()
        self._is_late = False

    def note(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note the next offset of places of which everything before is done."""
        new = {place: offset for place, offset in offsets.items() if self._written.get(place) != offset}
        if new:
            self._due.update(new)
            self._more.set()

    async def give_up(self, partitions: Collection[int]) -> None:
        """Write what is noted a last time while the partitions are ours, then forget them."""
        await self._write()
        for places in (self._due, self._written):
            for place in [place for place in places if place.partition in partitions]:
                del places[place]

    async def run(self) -> None:
        """Write what is noted, at most every `EVERY_S`, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            written = await self._write()
            await asyncio.sleep(EVERY_S if written else AGAIN_S)
            if not written:
                self._more.set()

    async def _write(self) -> bool:
        due = dict(self._due)
        if not due:
            return True
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._consumer.commit(due)
        except (KafkaError, TimeoutError) as error:
            if not self._is_late:
                log.info("the group's offsets are written later: %r", error)
            self._is_late = True
            return False
        if self._is_late:
            log.info("the group's offsets are written again")
        self._is_late = False
        self._written.update(due)
        self._due = {place: offset for place, offset in self._due.items() if due.get(place) != offset}
        return True
