"""`/me/forecast` by the days that the engine has, against sums done row by row."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline import ist
from pipeline.accounts.results import AccountView, KeyView
from pipeline.api.http.answers import json_answer
from pipeline.api.http.parameters import last_days
from pipeline.api.routes.forecast import READ_DAYS, ForecastAnswer, answer
from pipeline.api.services.coalesced_reads import CoalescedReads
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.forecast import forecast
from pipeline.journal import public_id
from tests.support.builders import NOW_MS
from tests.support.journal_rows import Request, inr, insert, random_requests, request

RUPEE = 10**9
TODAY = ist.day_of(NOW_MS)


def key(key_id: str, **changes: Any) -> KeyView:
    """Return a key of an org as its owner shows it; NOW_MS is in its month's middle."""
    fields = {
        "key_id": key_id,
        "name": f"{key_id} by name",
        "prefix": "br-",
        "tier": "standard",
        "created_ms": 0,
        "budget_nano": None,
        "daily_limit": None,
        "rpm_limit": None,
        "expires_ms": None,
        "revoked": False,
        "version": 1,
        "spent_this_month_nano": 0,
        "requests_today": 0,
    }
    return KeyView(**{**fields, **changes})


def account(balance_nano: int, *keys: KeyView) -> AccountView:
    """Return org_a as its owner shows it."""
    return AccountView("org_a", "A", "a@a.example", True, balance_nano, 0, None, None, list(keys))


def told(engine: Engine, seen: AccountView, now_ms: int = NOW_MS) -> Any:
    """Return the answer for org_a, its numbers exact; it fits what the document says of it."""

    async def read() -> list[bytes]:
        days = last_days(now_ms, READ_DAYS)
        reads, scope = CoalescedReads(engine), OrgScope("org_a")
        return await reads.ask(query("spend_days"), scope, from_day=days.first, to_day=days.last)

    text = bytes(json_answer(answer(seen, asyncio.run(read()), now_ms)).body)
    ForecastAnswer.model_validate(json.loads(text))
    return json.loads(text, parse_float=Decimal)


def daily(days: int, cost_nano: int, key_id: str = "key_1", first: int = 0) -> list[Request]:
    """Return a request of each of the days before today and of today."""
    return [
        request(public_id(0, first + n), "org_a", NOW_MS - n * ist.DAY_MS, cost_nano=cost_nano, key_id=key_id)
        for n in range(days + 1)
    ]


def test_it_is_the_forecast_of_the_orgs_days_and_of_no_others(engine: Engine) -> None:
    rows = random_requests(seed=61, count=4_000, days=70)
    insert(engine, rows)
    spent: Counter[int] = Counter()
    for row in rows:
        day = ist.day_of(row.at_ms)
        if row.org == "org_a" and day > TODAY - READ_DAYS:
            spent[day] += row.cost_nano
    made = forecast(spent, NOW_MS)
    assert made is not None
    balance_nano = 10 * sum(spent.values()) // READ_DAYS
    spend, ends = made.spend_per_day(), made.runs_out(balance_nano)
    assert ends is not None and ends.likely is not None and ends.latest is not None
    assert told(engine, account(balance_nano)) == {
        "as_of": ist.isoformat(NOW_MS),
        "balance_inr": inr(balance_nano),
        "spend_inr_per_day": {
            "low": inr(spend.low_nano),
            "likely": inr(spend.likely_nano),
            "high": inr(spend.high_nano),
        },
        "runs_out_on": {
            "earliest": ist.date_of(ends.earliest).isoformat(),
            "likely": ist.date_of(ends.likely).isoformat(),
            "latest": ist.date_of(ends.latest).isoformat(),
        },
        "keys": [],
    }
    assert ends.earliest < ends.likely < ends.latest


def test_each_key_reaches_its_own_budget_this_month_or_not(engine: Engine) -> None:
    insert(engine, daily(20, 2 * RUPEE, "fast") + daily(20, RUPEE, "slow", 100) + daily(1, RUPEE, "new", 200))
    half = {"budget_nano": 20 * RUPEE, "spent_this_month_nano": 10 * RUPEE}
    shown = told(
        engine,
        account(
            500 * RUPEE,
            key("fast", **half),
            key("slow", **{**half, "budget_nano": 100 * RUPEE}),
            key("new", **half),
            key("spent", budget_nano=RUPEE, spent_this_month_nano=RUPEE),
            key("free"),
            key("unused", **half),
            key("revoked", revoked=True, **half),
            key("expired", expires_ms=NOW_MS, **half),
        ),
    )
    # `fast` has spent 2 rupees of today's 2 already, and 10 are left: today by the clock gives 1, then 2 a day.
    assert {each["key_id"]: each["reached_on"] for each in shown["keys"]} == {
        "fast": "2026-06-18T00:00:00.000+05:30",
        "slow": None,
        "new": None,
        "spent": "2026-06-13T00:00:00.000+05:30",
        "free": None,
        "unused": None,
    }
    assert shown["keys"][0] == {
        "key_id": "fast",
        "key_name": "fast by name",
        "budget_inr": 20,
        "spent_this_month_inr": 10,
        "reached_on": "2026-06-18T00:00:00.000+05:30",
    }
    assert shown["keys"][4]["budget_inr"] is None


def test_a_key_that_ends_before_its_budget_does_not_reach_it(engine: Engine) -> None:
    insert(engine, daily(20, RUPEE))
    budget = {"budget_nano": 5 * RUPEE, "spent_this_month_nano": 0}
    reached_on = told(engine, account(RUPEE, key("key_1", **budget)))["keys"][0]["reached_on"]
    start_ms = ist.ms_of(datetime.fromisoformat(reached_on))
    for expires_ms, wanted in ((start_ms, None), (start_ms + 1, reached_on)):
        seen = account(RUPEE, key("key_1", expires_ms=expires_ms, **budget))
        assert told(engine, seen)["keys"][0]["reached_on"] == wanted


@pytest.mark.parametrize("days", [0, 1, 2])
def test_with_fewer_than_three_days_of_history_there_is_none(engine: Engine, days: int) -> None:
    insert(engine, daily(days, RUPEE))
    shown = told(engine, account(5 * RUPEE, key("key_1", budget_nano=5 * RUPEE)))
    assert shown["spend_inr_per_day"] == {"low": None, "likely": None, "high": None}
    assert shown["runs_out_on"] is None
    assert shown["keys"][0]["reached_on"] is None
    assert shown["balance_inr"] == 5


def test_a_balance_that_is_used_up_runs_out_today_and_one_that_nobody_spends_never(engine: Engine) -> None:
    insert(engine, daily(3, RUPEE))
    today = "2026-06-13"
    ends = {"earliest": today, "likely": today, "latest": today}
    for balance_nano in (0, -RUPEE):
        assert told(engine, account(balance_nano))["runs_out_on"] == ends
    # 40 days later the history has no day with a request, and it is one all the same.
    silent = told(engine, account(RUPEE), NOW_MS + 40 * ist.DAY_MS)
    assert silent["runs_out_on"] is None
    assert silent["spend_inr_per_day"] == {"low": 0, "likely": 0, "high": 0}


def test_money_is_exact_beyond_what_a_row_holds(engine: Engine) -> None:
    for n in range(3):
        rows = [msgspec.structs.replace(r, key_id=f"key_{n}") for r in daily(6, 2**62, first=10 * n)]
        insert(engine, rows)
    assert told(engine, account(RUPEE))["spend_inr_per_day"]["likely"] == inr(3 * 2**62)
