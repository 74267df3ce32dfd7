"""Have orgs told that the statement of the month before is ready.

Owns: when the partitions' owners are asked, and which have said that they are done.
Called by: the server, beside the API. Next: `telling/asking.py`; the owner of a partition decides, `posting/commands.py`.

An owner knows which of its orgs it has told. So after a start a server asks each partition once, whatever the number of orgs,
and several servers at once tell nobody twice. An owner that does not answer is asked again in the next round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pipeline import ist
from pipeline.accounts.results import StatementsTold
from pipeline.kafka.commands import UnavailableError
from pipeline.telling.asking import PAUSE_S, in_rounds

log = logging.getLogger(__name__)

SETTLE_MS = 15 * 60_000
"""How long after a month's end the first is told: what the database lacks of the month then is about to come."""


class PartitionOwners(Protocol):
    """What brings the question to the owner of a partition: a `CommandClient`."""

    @property
    def partitions(self) -> int:
        """How many there are."""

    async def tell_statements(self, partition: int, month: int, /) -> StatementsTold:
        """Return what the owner of a partition has said. Raises UnavailableError where it does not answer now."""


class StatementsReady:
    """Which partitions one server is done with for the month before, in memory alone."""

    def __init__(self, owners: PartitionOwners, now_ms: Callable[[], int]) -> None:
        """Start with nothing asked."""
        self._owners, self._now_ms = owners, now_ms
        self._month, self._left = 0, set[int]()
        self._silent = set[int]()
        """The partitions whose owner did not answer in the last round."""

    async def run(self) -> None:
        """Have orgs told, for ever. What fails is asked again in the next round."""
        await in_rounds(self.turn, "no statement is told of")

    async def turn(self) -> None:
        """Have the owner of each partition that is not done tell all its orgs of the month before."""
        this_month = ist.month_of(self._now_ms() - SETTLE_MS)
        month = ist.month_of(ist.month_start_ms(this_month) - 1)
        if month != self._month:
            self._month, self._left = month, set(range(self._owners.partitions))
        for partition in sorted(self._left):
            if await self._is_done(partition):
                self._left.discard(partition)

    async def _is_done(self, partition: int) -> bool:
        """Ask an owner until it has told all its orgs; return whether it has."""
        while True:
            try:
                told = await self._owners.tell_statements(partition, self._month)
            except UnavailableError as error:
                # Where all is started at once a server may ask before its worker is up.
                level = logging.WARNING if partition in self._silent else logging.INFO
                log.log(level, "partition %d: nobody is told of a statement now: %s", partition, error)
                self._silent.add(partition)
                return False
            self._silent.discard(partition)
            if not told.has_more or not told.orgs:
                # Without any told, the month is not over by the broker's clock.
                return not told.has_more
            await asyncio.sleep(PAUSE_S * told.orgs)
