"""`GET /me/forecast`: how long the balance lasts, and when each key reaches its budget.

Called by: `api/server/app.py`. Next: `pipeline/forecast.py` forecasts; `sql/queries/spend_days.sql` has the days, and the
account's owner the balance and what keys have spent, as for `/me/billing` and `/me/keys`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Struct, field

from pipeline import ist
from pipeline.accounts.results import AccountView, KeyView
from pipeline.api.http.answers import (
    DayText,
    Documented,
    Moment,
    Rupees,
    failures,
    json_answer,
    moment,
    rupees,
)
from pipeline.api.http.parameters import last_days, only
from pipeline.api.routes.billing import view_account
from pipeline.api.services.dependencies import AccountsOf, CoalescedReadsOf, ContextOf, SignedIn, signed_in
from pipeline.clickhouse.queries import query
from pipeline.forecast import HISTORY_DAYS, Forecast, RunsOut, forecast

router = APIRouter(tags=["billing"], dependencies=[Depends(signed_in)])

READ_DAYS = 2 * HISTORY_DAYS + 1
"""Today, the history, and as many days before it: an org that was quiet all through its history has had one."""


MONTH_DAYS_MAX = 31


class SpendShown(Documented):
    """Rupees a day over the four weeks after today; null with fewer than 3 days of history."""

    low: Rupees | None
    likely: Rupees | None
    high: Rupees | None


class RunsOutShown(Documented):
    """IST days on which the balance is used up; null where it lasts longer than a year."""

    earliest: DayText
    likely: DayText | None
    latest: DayText | None


class KeyForecast(Documented):
    """A key that is in force. `reached_on` is the start of the IST day on which its budget will likely be spent.

    It is null without a budget, with fewer than 3 days of history, and where the month or the key ends before.
    """

    key_id: str
    key_name: str
    budget_inr: Rupees | None
    spent_this_month_inr: Rupees
    reached_on: Moment | None


class ForecastAnswer(Documented):
    """How long the balance lasts, by the last 28 days with weekdays told apart.

    With fewer than 3 days of history all of `spend_inr_per_day` is null, and so is `runs_out_on`. With such a history
    `runs_out_on` is null where the balance lasts longer than a year.
    """

    as_of: Moment
    balance_inr: Rupees
    spend_inr_per_day: SpendShown
    runs_out_on: RunsOutShown | None
    keys: list[KeyForecast]


class _DayRow(Struct, frozen=True):
    """What a key was debited on a day."""

    day: date
    key_id: str
    cost_nano: int = field(name="cost_sum_nano")


_decode_row = msgspec.json.Decoder(_DayRow, strict=False).decode


@router.get("/me/forecast", response_model=ForecastAnswer, responses=failures(400, 401))
async def forecast_spend(
    session: SignedIn,
    context: ContextOf,
    accounts: AccountsOf,
    reads: CoalescedReadsOf,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """How long the balance lasts, low, likely and high, and when each key reaches its budget this month."""
    account = await view_account(accounts.client, session.org)
    now_ms = context.now_ms()
    days = last_days(now_ms, READ_DAYS)
    lines = await reads.ask(query("spend_days"), session.scope, from_day=days.first, to_day=days.last)
    return json_answer(answer(account, lines, now_ms))


def answer(account: AccountView, lines: Iterable[bytes], now_ms: int) -> dict[str, object]:
    """Return the answer for an account by the lines of `sql/queries/spend_days.sql`."""
    of_org: Counter[int] = Counter()
    of_key: dict[str, Counter[int]] = defaultdict(Counter)
    for row in map(_decode_row, lines):
        day = ist.day_of_date(row.day)
        of_org[day] += row.cost_nano
        of_key[row.key_id][day] += row.cost_nano
    made = forecast(of_org, now_ms)
    return {
        "as_of": moment(now_ms),
        "balance_inr": rupees(account.balance_nano),
        "spend_inr_per_day": _spend(made),
        "runs_out_on": None if made is None else _runs_out(made.runs_out(account.balance_nano)),
        "keys": [_key(key, of_key[key.key_id], now_ms) for key in account.keys if _is_in_force(key, now_ms)],
    }


def _spend(made: Forecast | None) -> dict[str, object]:
    if made is None:
        return {"low": None, "likely": None, "high": None}
    spend = made.spend_per_day()
    return {
        "low": rupees(spend.low_nano),
        "likely": rupees(spend.likely_nano),
        "high": rupees(spend.high_nano),
    }


def _runs_out(told: RunsOut | None) -> dict[str, object] | None:
    if told is None:
        return None
    return {"earliest": _day(told.earliest), "likely": _day(told.likely), "latest": _day(told.latest)}


def _key(key: KeyView, spent_nano: Mapping[int, int], now_ms: int) -> dict[str, object]:
    reached_on = _reached_on(key, spent_nano, now_ms)
    return {
        "key_id": key.key_id,
        "key_name": key.name,
        "budget_inr": None if key.budget_nano is None else rupees(key.budget_nano),
        "spent_this_month_inr": rupees(key.spent_this_month_nano),
        "reached_on": None if reached_on is None else moment(ist.day_start_ms(reached_on)),
    }


def _reached_on(key: KeyView, spent_nano: Mapping[int, int], now_ms: int) -> int | None:
    """Return the IST day on which a key's budget is spent: today where it is already."""
    if key.budget_nano is None:
        return None
    left_nano = key.budget_nano - key.spent_this_month_nano
    if left_nano <= 0:
        return ist.day_of(now_ms)
    made = forecast(spent_nano, now_ms, MONTH_DAYS_MAX)
    day = None if made is None else made.reached_this_month(left_nano)
    ends_before = day is not None and key.expires_ms is not None and key.expires_ms <= ist.day_start_ms(day)
    return None if ends_before else day


def _is_in_force(key: KeyView, now_ms: int) -> bool:
    return not key.revoked and (key.expires_ms is None or key.expires_ms > now_ms)


def _day(day: int | None) -> date | None:
    return None if day is None else ist.date_of(day)
