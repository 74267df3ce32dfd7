"""What an org's balance was at any instant, and its statements: read from the roll-up by day of posting, and exact.

Owns: how long rows are waited for, and which rows an answer about the past is made of.
Called by: the routes of statements and past balances, by way of `api/services/dependencies.py`. Next: `statements.py` has the rules.

The time of posting never falls within a partition, so once the account's owner has answered, all that was posted before its
answer is in the journal. It names the id that the next row takes; when the row before that is in the database, so
is everything up to then. From there on that part of the past is known not to change.

A ledger entry has the balance after it, so a balance is that of the newest entry before the instant, less what requests
cost since. Of that, the roll-up has the days between (`posted_days.py`): only of the days at the two ends rows are read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NoReturn

from pipeline import ist
from pipeline.accounts.commands import View
from pipeline.accounts.results import AccountView
from pipeline.api.http.errors import not_found, unavailable
from pipeline.api.http.parameters import BEFORE_MAX
from pipeline.api.services.accounts import AccountServices, answered_in_time
from pipeline.api.services.posted_days import DaySums, PostedDays, read_posted_days
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.clickhouse.shards import Database
from pipeline.events import LATE_MS
from pipeline.journal import PARTITIONS_MAX, LedgerRow, position_of
from pipeline.kafka.commands import new_command_id
from pipeline.statements import (
    Debit,
    MonthSums,
    Statement,
    StatementError,
    StatementLine,
    added_up,
    checked,
    months,
    text_of,
)

log = logging.getLogger(__name__)

ROWS_LIMIT_S, ROWS_POLL_S = 5.0, 0.05
ORGS_KEPT = 10_000
ONE_THREAD = {"max_threads": 1}
NO_RIDS = (1, 0)
"""A range that nothing is in."""


@dataclass
class History:
    """The past of one server's orgs. `kept_from` is the first month, YYYY-MM, whose single requests are still kept."""

    database: Database
    accounts: AccountServices
    kept_from: str | None = None
    _complete_ms: dict[str, int] = field(default_factory=dict)
    """Up to before which instant all rows of an org are in the database, as far as this server knows."""

    def engine_of(self, scope: OrgScope) -> Engine:
        """Return who has an org's rows."""
        return self.database.of_org(scope.org)

    async def balance_nano(self, scope: OrgScope, at_ms: int) -> int:
        """Return the balance right after everything that was posted up to an instant. Raises ApiError."""
        if at_ms < self._complete_ms.get(scope.org, 0):
            return await self._balance_nano(scope, at_ms, BEFORE_MAX)
        now = await self._all_until_now(scope)
        if at_ms >= now.posted_ms:
            raise unavailable()
        return await self._balance_nano(scope, at_ms, now.next_id)

    async def lines(self, scope: OrgScope) -> list[StatementLine]:
        """Return the months of an org, newest first. Raises ApiError."""
        now = await self._all_until_now(scope)
        credited, debited = await asyncio.gather(
            self._credits(scope, now), self._debits_of_months(scope, now)
        )
        known = sorted(credited.keys() | debited.keys())
        sums = [MonthSums(month, credited.get(month, 0), debited.get(month, 0)) for month in known]
        found = months(sums, now.posted_ms)
        if found and found[0].closing_nano != now.balance_nano and not self.kept_from:
            self._refuse(StatementError(f"the months of {scope.org} do not add up to its balance"))
        return [line for line in found if self._keeps(ist.month_start_ms(line.month))]

    async def statement(self, scope: OrgScope, month: int) -> Statement:
        """Return the statement of a month YYYYMM. Raises ApiError where there is none, or it cannot be told now."""
        start_ms, end_ms = ist.month_start_ms(month), ist.month_end_ms(month)
        posted_ms, below, balance_nano = await self.begun(scope, month)
        through_ms = min(end_ms - 1, posted_ms)
        statement = Statement(
            scope.org,
            month,
            through_ms,
            end_ms <= posted_ms,
            await self._balance_nano(scope, start_ms - 1, below),
            await self.entries(scope, start_ms, through_ms, below),
            await self._debits(scope, ist.day_of(start_ms), through_ms, below),
        )
        closing_nano = (
            await self._balance_nano(scope, through_ms, below) if statement.closed else balance_nano
        )
        try:
            return checked(statement, closing_nano)
        except StatementError as error:
            self._refuse(error)

    async def begun(self, scope: OrgScope, month: int) -> tuple[int, int, int]:
        """Return up to when all rows are in the database, below which id, and the balance then; see `_known`. Raises ApiError.

        404 for a month YYYYMM that has not begun, or of which the single requests are not kept any more.
        """
        start_ms = ist.month_start_ms(month)
        known = await self._known(scope, ist.month_end_ms(month))
        if start_ms > known[0]:
            raise not_found(f"{text_of(month)} has not begun")
        if not self._keeps(start_ms):
            raise not_found(f"the single requests of {text_of(month)} are not kept any more")
        return known

    async def _known(self, scope: OrgScope, end_ms: int) -> tuple[int, int, int]:
        """Return up to when all rows are in the database, below which id they are, and the balance at that time.

        Where that is known for all before `end_ms` already, nobody is asked, and the balance is not told: 0.
        """
        complete_ms = self._complete_ms.get(scope.org, 0)
        if end_ms <= complete_ms:
            return complete_ms, BEFORE_MAX, 0
        now = await self._all_until_now(scope)
        return now.posted_ms, now.next_id, now.balance_nano

    async def _all_until_now(self, scope: OrgScope) -> AccountView:
        """Return the account as it is now, once all rows up to now are in the database. Raises ApiError 503 else."""
        async with answered_in_time():
            view = await self.accounts.ask(View(new_command_id(), scope.org))
        if not view.next_id:
            # The worker is of an earlier release, and does not say.
            raise unavailable()
        deadline = time.monotonic() + ROWS_LIMIT_S
        while not await self._is_written(scope, view.next_id - PARTITIONS_MAX):
            if time.monotonic() > deadline:
                raise unavailable()
            await asyncio.sleep(ROWS_POLL_S)
            # The rows may be there, and only this replica be behind.
            await self.engine_of(scope).async_catch_up()
        if len(self._complete_ms) >= ORGS_KEPT:
            self._complete_ms.clear()
        self._complete_ms[scope.org] = view.posted_ms
        return view

    async def _is_written(self, scope: OrgScope, row_id: int) -> bool:
        if not position_of(row_id)[1]:
            return True
        bound = query("is_rolled_up").of_platform(id=row_id)
        found = await self.engine_of(scope).async_query(
            bound.sql, bound.parameters, row=tuple[int], settings=ONE_THREAD
        )
        return found[0][0] > 0

    async def _balance_nano(self, scope: OrgScope, at_ms: int, below: int) -> int:
        """Return the balance at an instant before which all rows are there, given an id that all of these are below."""
        bound = query("ledger_before").of_org(scope, at_ms=at_ms, below=below)
        found, days = await asyncio.gather(
            self.engine_of(scope).async_query(
                bound.sql, bound.parameters, row=tuple[int, int, int], settings=ONE_THREAD
            ),
            self._posted_days(scope, ist.day_of(at_ms)),
        )
        entry_id, entry_ms, balance_nano = found[0]
        if not self._keeps(entry_ms) and entry_ms < at_ms:
            raise not_found("the single requests of that time are not kept any more")
        first, last = ist.day_of(entry_ms), _first_not_whole(at_ms)
        ends = [days.ids(number) for number in {first, last} if ist.day_start_ms(number) <= at_ms]
        at_ends = await self._debits_up_to(
            scope, at_ms, *((max(low, entry_id + 1), min(high, below - 1)) for low, high in ends)
        )
        left_nano: int = balance_nano - days.debits_nano(first + 1, last) - at_ends
        return left_nano

    async def _posted_days(self, scope: OrgScope, last: int) -> PostedDays:
        """Return the IST days up to one on which requests were posted."""
        return await read_posted_days(self.engine_of(scope), scope, last, self._complete_ms.get(scope.org, 0))

    async def _debits_up_to(self, scope: OrgScope, at_ms: int, *ranges: tuple[int, int]) -> int:
        """Return what the requests cost that were posted up to an instant, of those in one of at most two ranges of ids.

        A range is its first and last id, and may be empty. One question for both: it costs little more than for one.
        """
        of_rids = [_rids(first_id, last_id) for first_id, last_id in ranges if first_id <= last_id]
        if not of_rids:
            return 0
        (from_rid, to_rid), (also_from_rid, also_to_rid) = (*of_rids, NO_RIDS)[:2]
        bound = query("debits_up_to").of_org(
            scope,
            at_ms=at_ms,
            from_rid=from_rid,
            to_rid=to_rid,
            also_from_rid=also_from_rid,
            also_to_rid=also_to_rid,
        )
        found = await self.engine_of(scope).async_query(bound.sql, bound.parameters, row=tuple[int])
        debits_nano: int = found[0][0]
        return debits_nano

    async def _credits(self, scope: OrgScope, now: AccountView) -> dict[int, int]:
        """Return what was credited in each month YYYYMM, as the account knows it."""
        bound = query("statement_months").of_org(scope, below=now.next_id)
        return dict(
            await self.engine_of(scope).async_query(
                bound.sql, bound.parameters, row=tuple[int, int], settings=ONE_THREAD
            )
        )

    async def _debits_of_months(self, scope: OrgScope, now: AccountView) -> dict[int, int]:
        """Return what was debited in each month YYYYMM, as the account knows it."""
        today, debited = ist.day_of(now.posted_ms), defaultdict[int, int](int)
        days = await self._posted_days(scope, today)
        for day in days.days:
            if day.number < today:
                debited[ist.month_of_day(day.number)] += day.debits_nano
        first_id, _ = days.ids(today)
        if so_far_nano := await self._debits_up_to(scope, now.posted_ms, (first_id, now.next_id - 1)):
            debited[ist.month_of_day(today)] += so_far_nano
        return debited

    async def entries(self, scope: OrgScope, from_ms: int, to_ms: int, below: int) -> list[LedgerRow]:
        """Return the ledger entries posted between two instants, both included, below an id, oldest first."""
        bound = query("statement_entries").of_org(scope, from_ms=from_ms, to_ms=to_ms, below=below)
        return await self.engine_of(scope).async_query(
            bound.sql, bound.parameters, row=LedgerRow, settings=ONE_THREAD
        )

    async def _debits(self, scope: OrgScope, first: int, through_ms: int, below: int) -> list[Debit]:
        """Return what was debited from an IST day on up to an instant before which all rows are there, or are below an id.

        Made of the sums by the requests' own days, and of the rows by which the two differ: requests that were posted on
        another day than their own, at either end. The sums are read first, so what is in them is in the rows.
        """
        last = ist.day_of(through_ms)
        days = await self._posted_days(scope, last)
        first_id, last_id = days.ids(first)[0], min(days.ids(last)[1], below - 1)
        of_days = {"from_day": ist.date_of(first).isoformat(), "to_day": ist.date_of(last).isoformat()}
        bound = query("statement_debits").of_org(scope, **of_days)
        sums = await self.engine_of(scope).async_query(bound.sql, bound.parameters, row=DaySums)
        known = max((each.last_id for each in sums), default=0)
        from_rid, to_rid = _rids(first_id, last_id) if first_id <= last_id else NO_RIDS
        later_from_rid, later_to_rid = _rids(last_id + 1, known) if last_id < known else NO_RIDS
        bound = query("statement_strays").of_org(
            scope,
            **of_days,
            from_rid=from_rid,
            to_rid=to_rid,
            later_from_rid=later_from_rid,
            later_to_rid=later_to_rid,
        )
        strays = await self.engine_of(scope).async_query(bound.sql, bound.parameters, row=Debit)
        return added_up([*sums, *strays])

    def _keeps(self, at_ms: int) -> bool:
        """Whether all single requests are kept that were posted since an instant."""
        if self.kept_from is None:
            return True
        # A request may be posted so long after its day, by which it is kept.
        oldest = ist.date_of(max(ist.day_of(at_ms - LATE_MS) - 1, 0))
        return oldest.isoformat() >= f"{self.kept_from}-01"

    def _refuse(self, error: StatementError) -> NoReturn:
        log.error("%s", error)
        raise unavailable()


def _first_not_whole(at_ms: int) -> int:
    """Return the first IST day of which an instant is not past all: its own, or the next where it is the day's last."""
    return ist.day_of(at_ms + 1)


def _rids(first_id: int, last_id: int) -> tuple[int, int]:
    """Return two ids as the tables count them, down from 2^53 - 1, which is BEFORE_MAX - 1."""
    return BEFORE_MAX - 1 - last_id, BEFORE_MAX - 1 - first_id
