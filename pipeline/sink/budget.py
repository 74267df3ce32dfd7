"""How many bytes of the journal a sink may hold, over all its partitions.

Owns: who holds how much, and who may take more. Pure, but that whoever waits is woken.
Called by: `sink/sink.py`, which asks before anything is taken from Kafka, and `sink/partition.py`.

More is taken only while less than the limit is held, so what is held stays below the limit and one take: a take is
what a reader gets before it asks again, or a recorded range that is read in whole. Half of the limit is for whoever
comes first, the other half is shared out evenly. So a partition whose rows ClickHouse refuses fills no more than
half and its share, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline import telemetry

RECORD_BYTES = 1024
"""What a record takes in memory beside its value."""


def held_bytes(value_bytes: int) -> int:
    """Return what a journal record takes while it is held: as it was read, and in the insert it is joined into."""
    return 2 * value_bytes + RECORD_BYTES


class ByteBudget:
    """A limit in bytes that partitions share."""

    def __init__(self, limit_bytes: int, on_change: Callable[[], None] = lambda: None) -> None:
        """Start with nothing held. `on_change` is called whenever it is somebody else who may take more."""
        self._limit, self._on_change = limit_bytes, on_change
        self._held: dict[int, int] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.total = 0
        """How many bytes are held."""

    def join(self, partition: int) -> None:
        """Count a partition among those that share the limit. It holds nothing yet."""
        self._held.setdefault(partition, 0)

    def leave(self, partition: int) -> None:
        """Give back what a partition holds, and count it no more."""
        self.give_back(partition, self._held.get(partition, 0))
        self._held.pop(partition, None)

    def may_take(self, partition: int) -> bool:
        """Return whether a partition may take more."""
        share = self._limit / (2 * max(1, len(self._held)))
        first_come = self.total < self._limit / 2
        return self.total < self._limit and (first_come or self._held[partition] < share)

    def take(self, partition: int, taken_bytes: int) -> None:
        """Note that a partition holds so much more."""
        self._held[partition] += taken_bytes
        self._note(taken_bytes)

    def give_back(self, partition: int, given_bytes: int) -> None:
        """Note that a partition holds so much less. Where it has left meanwhile it holds nothing any more."""
        if partition not in self._held or not given_bytes:
            return
        self._held[partition] -= given_bytes
        self._note(-given_bytes)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
        self._on_change()

    async def wait_and_take(self, partition: int, taken_bytes: int) -> None:
        """Wait until a partition may take more, then take so much, be it more than is left."""
        while not self.may_take(partition):
            woken = asyncio.get_running_loop().create_future()
            self._waiting.append(woken)
            await woken
        self.take(partition, taken_bytes)
        self._on_change()

    def _note(self, more: int) -> None:
        self.total += more
        telemetry.SINK_HELD.set(self.total)
