"""What the requests of an org cost on each IST day of posting, as a server has summed it up.

Owns: which sums are kept, and how long a question waits for the first ones. Called by: `api/services/history.py`.

What was posted on a day that is over never changes. So an org's days are summed up when it is first asked about, and kept; later
only rows that are newer are read. Those of a very large org take longer than an answer may: whoever asks is told to ask again,
and the summing goes on, once for all who wait, in the engine's lane for scans.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import date

from msgspec import Struct

from pipeline import ist
from pipeline.api.http.errors import unavailable
from pipeline.api.http.parameters import BEFORE_MAX
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.queries import OrgScope, query

log = logging.getLogger(__name__)

DAYS_KEPT = 200_000
"""Of all orgs together; some 200 bytes each."""
FIRST_LIMIT_S = 5.0
SCAN = {"max_execution_time": 600}


class PostedDay(Struct, array_like=True, frozen=True):
    """What requests cost that were posted on an IST day, in nano-rupees, and the lowest and the highest of their ids."""

    day: date
    debits_nano: int
    first_id: int
    last_id: int

    @property
    def number(self) -> int:
        """The day as `ist.day_of` counts them."""
        return ist.day_of_date(self.day)


@dataclass
class PostedDays:
    """The days of one server's orgs."""

    engine: Engine
    first_limit_s: float = FIRST_LIMIT_S
    _over: dict[str, list[PostedDay]] = field(default_factory=dict)
    """The days of an org that are over, oldest first, as far as they are summed up."""
    _summing: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def up_to(self, scope: OrgScope, last: int, complete_ms: int) -> list[PostedDay]:
        """Return the IST days up to one on which requests were posted, oldest first.

        All rows before `complete_ms` are in the database; of the last day, some may still come. Raises ApiError 503 while
        an org that was never asked about takes longer than FIRST_LIMIT_S.
        """
        if scope.org not in self._over:
            await self._first_sums(scope, complete_ms)
        known = self._over.get(scope.org, [])
        if known and last <= known[-1].number:
            return [day for day in known if day.number <= last]
        days = [*known, *await self._read(scope, last, known[-1].last_id + 1 if known else 0)]
        self._keep(scope.org, [day for day in days if ist.day_end_ms(day.number) <= complete_ms])
        return days

    async def _first_sums(self, scope: OrgScope, complete_ms: int) -> None:
        """Have the days that are over summed up, together with all who ask for the same. Raises ApiError 503."""
        summing = self._summing.get(scope.org)
        if summing is None:
            summing = asyncio.create_task(self._sum_up(scope, ist.day_of(complete_ms) - 1))
            self._summing[scope.org] = summing
            summing.add_done_callback(lambda task: self._summed_up(scope.org, task))
        try:
            await asyncio.wait_for(asyncio.shield(summing), self.first_limit_s)
        except TimeoutError:
            raise unavailable() from None

    def _summed_up(self, org: str, task: asyncio.Task[None]) -> None:
        """Forget a summing that has ended; maybe nobody waits for it any more, to hear of its error."""
        del self._summing[org]
        if not task.cancelled() and (error := task.exception()):
            log.warning("the days of an org could not be summed up: %s", error)

    async def _sum_up(self, scope: OrgScope, last: int) -> None:
        try:
            days = await self._read(scope, last, 0)
        except EngineUnavailable:
            days = await self._read(scope, last, 0, SCAN)
        self._keep(scope.org, days)

    async def _read(
        self, scope: OrgScope, last: int, first_id: int, settings: dict[str, int] | None = None
    ) -> list[PostedDay]:
        """Return the days up to one, of the requests that have ids from `first_id` on."""
        bound = query("posted_days").of_org(
            scope, to_ms=ist.day_end_ms(last) - 1, to_rid=BEFORE_MAX - 1 - first_id
        )
        return await self.engine.async_query(bound.sql, bound.parameters, row=PostedDay, settings=settings)

    def _keep(self, org: str, over: list[PostedDay]) -> None:
        """Keep the days of an org that are over, unless more of them are known."""
        if len(over) < len(self._over.get(org, ())):
            return
        if sum(map(len, self._over.values())) + len(over) > DAYS_KEPT:
            self._over.clear()
        self._over[org] = over
