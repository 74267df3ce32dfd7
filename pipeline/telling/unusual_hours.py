"""Have orgs told of an hour that cost many times what that hour of the week usually does.

Owns: which hours are looked at.
Called by: the server, beside the API. Next: `unusual.py` has the rule, the account's owner decides: `accounts/telling.py`.

Several servers may do this at once: the owner tells of one hour in 24, so that is only waste. An hour is looked at once it
has been over for ten minutes. What comes later, from a gateway's spool, is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pipeline import ist
from pipeline.accounts.commands import TellUnusualHour
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.kafka.commands import new_command_id
from pipeline.telling.asking import Owners, asked, in_rounds
from pipeline.unusual import AT_LEAST_NANO, HOUR_MS, WEEK_MS, WEEKS, HourCost, last_hour_ms, outlier

SETTLE_MS = 10 * 60_000
SCAN = {"max_threads": 1, "max_execution_time": 60}
"""The hour is no sort key: it is looked for among the rows of its month, by one thread and behind those who wait."""


class _SpenderRow(Struct, array_like=True):
    org: str


class _CostRow(Struct, array_like=True):
    key_id: str
    model: str
    cost_nano: int
    before_nano: int


class UnusualHours:
    """Which hour one server has looked at last, in memory alone."""

    def __init__(self, client: Owners, engine: Engine, now_ms: Callable[[], int]) -> None:
        """Start with none looked at."""
        self._client, self._engine, self._now_ms = client, engine, now_ms
        self._done_ms = 0

    async def run(self) -> None:
        """Look at each hour once it is over, for ever. What fails is looked at again in the next round."""
        await in_rounds(self.turn, "no hour is looked at")

    async def turn(self) -> None:
        """Look at the last hour that is over, unless that was done. Raises EngineError."""
        hour_ms = last_hour_ms(self._now_ms(), SETTLE_MS)
        if hour_ms == self._done_ms:
            return
        bound = query("hour_spenders").of_platform(
            from_ms=hour_ms,
            until_ms=hour_ms + HOUR_MS,
            day=ist.date_of(ist.day_of(hour_ms)),
            at_least_nano=AT_LEAST_NANO,
        )
        spenders = await self._engine.async_query(bound.sql, bound.parameters, row=_SpenderRow, settings=SCAN)
        answered = [await self._look_at(spender.org, hour_ms) for spender in spenders]
        if all(answered):
            self._done_ms = hour_ms

    async def _look_at(self, org: str, hour_ms: int) -> bool:
        """Have an org told of an hour if it was unusual; return whether nothing is left to do."""
        from_ms = hour_ms - WEEKS * WEEK_MS
        bound = query("hour_of_week").of_org(
            OrgScope(org),
            from_day=ist.date_of(ist.day_of(from_ms)),
            to_day=ist.date_of(ist.day_of(hour_ms)),
            from_ms=from_ms,
            until_ms=hour_ms + HOUR_MS,
            week_ms=WEEK_MS,
            hour_ms=HOUR_MS,
        )
        rows = await self._engine.async_query(bound.sql, bound.parameters, row=_CostRow, settings=SCAN)
        found = outlier([HourCost(row.key_id, row.model, row.cost_nano, row.before_nano) for row in rows])
        if found is None:
            return True
        command = TellUnusualHour(
            new_command_id(),
            org,
            hour_ms=hour_ms,
            cost_nano=found.cost_nano,
            usual_nano=found.usual_nano,
            key_id=found.key_id,
            model=found.model[:256],
        )
        return await asked(self._client, command)
