"""Know whether somebody answers for every partition, without asking all of them all the time.

Owns: which partition is asked when, and who has not answered. Called by: `api/server/main.py`.

A question is a command of its own, so it costs a transaction: of hundreds of partitions, a few a second are asked, in
turn. All are asked once at the start; those that did not answer are asked again until they do.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection

from pipeline.kafka.commands import UnavailableError
from pipeline.kafka.group_watch import in_words

log = logging.getLogger(__name__)

FRESH_S = 5.0
"""Each partition is asked this often where there are few."""
TURN_S = 0.5
"""Never more than one question in so long: a hundred partitions take a minute, at two transactions a second."""
AGAIN_S = 2.0
AT_ONCE = 16
"""So many of those that did not answer are asked at once: what is asked waits for whoever owns them next."""


class WorkerWatch:
    """Which partitions nobody answered for, as far as is known."""

    def __init__(self, partitions: int, ask: Callable[[int], Awaitable[None]]) -> None:
        """Prepare. `ask` returns once a partition's owner has answered, and raises UnavailableError where none does."""
        self._ask_owner = ask
        # The next partition is far from the last: the partitions of one worker are neighbours.
        step = next(
            s
            for s in range(max(1, round(partitions * 0.618)), 2 * partitions + 1)
            if math.gcd(s, partitions) == 1
        )
        self._order = [turn * step % partitions for turn in range(partitions)]
        self._unanswered = dict.fromkeys(range(partitions))
        self._asked_all = asyncio.Event()

    async def problem(self) -> str | None:
        """Return who has not answered, None where everybody has: from memory, once all were asked."""
        await self._asked_all.wait()
        return f"no answer for partition {in_words(self._unanswered)}" if self._unanswered else None

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._ask(list(self._unanswered))
        self._asked_all.set()
        while True:
            for partition in self._order:
                while self._unanswered:
                    some = list(self._unanswered)[:AT_ONCE]
                    if not await self._ask(some):
                        await asyncio.sleep(AGAIN_S)
                await asyncio.sleep(max(TURN_S, FRESH_S / len(self._order)))
                await self._ask([partition])

    async def _ask(self, partitions: Collection[int]) -> bool:
        """Ask some partitions and note who answered; whether anybody did."""
        answers = await asyncio.gather(*map(self._answers, partitions))
        for partition, answered in zip(partitions, answers, strict=True):
            # Whoever did not answer goes to the end of those that are asked again.
            self._unanswered.pop(partition, None)
            if not answered:
                self._unanswered[partition] = None
        return any(answers)

    async def _answers(self, partition: int) -> bool:
        try:
            await self._ask_owner(partition)
        except UnavailableError as error:
            log.info("a worker did not answer: %s", error)
            return False
        return True
