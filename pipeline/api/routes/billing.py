"""`GET /me/billing`: the balance and the ledger.

Owns: the answer, and that it holds whatever any command was answered before.
Called by: `api/server/app.py`. Next: `kafka/commands.py` for the balance, as the account's owner
knows it now; `sql/queries/ledger_page.sql` for the entries.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from pipeline.accounts.commands import CommandRefusal, View
from pipeline.accounts.results import AccountView
from pipeline.api.http.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.errors import refused, unavailable
from pipeline.api.http.parameters import BEFORE_MAX, LIMIT_DEFAULT, Before, Limit, only
from pipeline.api.services.dependencies import AccountsOf, ContextOf, SignedIn, signed_in
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.journal import LedgerRow
from pipeline.kafka.commands import CommandClient, UnavailableError, new_command_id

ENTRIES_LIMIT_S = 2.5
ENTRIES_POLL_S = 0.05

router = APIRouter(tags=["billing"], dependencies=[Depends(signed_in)])


class EntryShown(Documented):
    """One money event. `balance_after_inr` counts request debits too."""

    id: Count
    at: Moment
    kind: str
    amount_inr: Rupees
    balance_after_inr: Rupees
    payment_id: str | None
    order_id: str | None
    promo_code: str | None
    note: str | None


class BillingAnswer(Documented):
    """The balance now, and a page of the ledger; `next_before` is the next page's `before`."""

    balance_inr: Rupees
    threshold_inr: Rupees | None
    address: dict[str, str | None] | None
    entries: list[EntryShown]
    next_before: int | None


def shown_entry(row: LedgerRow) -> dict[str, object]:
    """Return a money event as answers show it."""
    return {
        "id": row.id,
        "at": moment(row.posted_ms),
        "kind": row.kind,
        "amount_inr": rupees(row.amount_nano),
        "balance_after_inr": rupees(row.balance_after_nano),
        "payment_id": row.payment_id or None,
        "order_id": row.order_id or None,
        "promo_code": row.promo_code or None,
        "note": row.note or None,
    }


@router.get("/me/billing", response_model=BillingAnswer, responses=failures(400, 401))
async def billing(
    session: SignedIn,
    context: ContextOf,
    accounts: AccountsOf,
    _checked: Annotated[None, Depends(only("before", "limit"))],
    before: Before = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """The balance, and the money events newest first. Single requests are not in it."""
    account = await view_account(accounts.client, session.org)
    rows = await _page(context.engine_of(session.scope), session.scope, before, limit + 1, account.entry_id)
    shown, threshold_nano = rows[:limit], account.threshold_nano
    return json_answer(
        {
            "balance_inr": rupees(account.balance_nano),
            "threshold_inr": None if threshold_nano is None else rupees(threshold_nano),
            "address": account.address,
            "entries": [shown_entry(row) for row in shown],
            "next_before": shown[-1].id if len(rows) > limit else None,
        }
    )


async def view_account(client: CommandClient, org: str) -> AccountView:
    """Return an org's account as its owner knows it now. Raises ApiError 503 where nobody answers."""
    try:
        answer = await client.send(View(new_command_id(), org))
    except UnavailableError:
        raise unavailable() from None
    if isinstance(answer, CommandRefusal):
        raise refused(answer)
    return answer


async def _page(
    engine: Engine, scope: OrgScope, before: int | None, rows: int, newest_id: int
) -> list[LedgerRow]:
    """Return a page of the ledger once it is written up to an id. Raises ApiError 503 where it is not.

    The owner's answer may be a moment ahead of ClickHouse; an answer must hold every entry whose command
    was answered before.
    """
    bound = query("ledger_page").of_org(
        scope, from_rid=0 if before is None else BEFORE_MAX - before, rows=rows
    )
    deadline = time.monotonic() + ENTRIES_LIMIT_S
    while True:
        page = await engine.async_query(
            bound.sql, bound.parameters, row=LedgerRow, settings={"max_threads": 1}
        )
        is_there = newest_id == 0 or any(row.id >= newest_id for row in page)
        if is_there or (before is not None and before <= newest_id):
            return page
        if time.monotonic() > deadline:
            raise unavailable()
        await asyncio.sleep(ENTRIES_POLL_S)
        # They may be there, and only this replica be behind.
        await engine.async_catch_up()
