"""Have orgs told that the statement of the month before is ready.

Owns: which orgs are asked about.
Called by: the server, beside the API. Next: `telling/asking.py`; the account's owner decides, `accounts/telling.py`.

Several servers may do this at once, and each does it again after a start: the owner knows what it has told, so that is only
waste. An org whose owner does not answer is asked about again in the next round.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pipeline import ist
from pipeline.accounts.commands import TellStatement
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import query
from pipeline.kafka.commands import new_command_id
from pipeline.telling.asking import Owners, asked, in_rounds

SETTLE_MS = 15 * 60_000
"""How long after a month's end the first is told: what the database lacks of the month then is about to come."""


class _OrgRow(Struct, array_like=True):
    org: str


class StatementsReady:
    """What one server has asked owners to tell, in memory alone."""

    def __init__(self, client: Owners, engine: Engine, now_ms: Callable[[], int]) -> None:
        """Start with nothing asked."""
        self._client, self._engine, self._now_ms = client, engine, now_ms
        self._month, self._asked = 0, set[str]()

    async def run(self) -> None:
        """Have orgs told, for ever. What fails is asked again in the next round."""
        await in_rounds(self.turn, "no statement is told of")

    async def turn(self) -> None:
        """Ask the owner of each org that has a statement of the month before and was not asked about. Raises EngineError."""
        this_month = ist.month_of(self._now_ms() - SETTLE_MS)
        until_ms = ist.month_start_ms(this_month)
        month = ist.month_of(until_ms - 1)
        if month != self._month:
            self._month, self._asked = month, set()
        bound = query("statement_orgs").of_platform(until_ms=until_ms)
        for row in await self._engine.async_query(bound.sql, bound.parameters, row=_OrgRow):
            if row.org not in self._asked:
                command = TellStatement(new_command_id(), row.org, month)
                if await asked(self._client, command):
                    self._asked.add(row.org)
