"""`GET /me/usage` and `/me/usage/daily`: requests and tokens of the last 30 IST days.

Called by: `api/server/app.py`. Next: `sql/queries/usage.sql`, `sql/queries/usage_daily.sql`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from pipeline.api.http.answers import (
    Count,
    DayText,
    Documented,
    Moment,
    failures,
    json_answer,
    json_array,
    moment,
)
from pipeline.api.http.parameters import DAYS_DEFAULT, last_days, only
from pipeline.api.services.dependencies import CoalescedReadsOf, ContextOf, SignedIn, signed_in
from pipeline.clickhouse.queries import query

router = APIRouter(tags=["usage"], dependencies=[Depends(signed_in)])


class Volume(Documented):
    """How many requests, and prompt and completion tokens together."""

    requests: Count
    tokens: Count


class KeyUsageShown(Documented):
    """One key's requests; `key_name` is null for a key that nobody knows."""

    key_id: str
    key_name: str | None
    today: Volume
    last_30_days: Volume


class UsageTotals(Documented):
    """All keys together."""

    today: Volume
    last_30_days: Volume


class UsageAnswer(Documented):
    """Keys with requests in the last 30 IST days, most tokens first, and their totals."""

    as_of: Moment
    keys: list[KeyUsageShown]
    totals: UsageTotals


class ModelDay(Documented):
    """One model on one IST day."""

    day: DayText
    model: str
    requests: Count
    tokens: Count


class DailyAnswer(Documented):
    """A day x model series, oldest day first."""

    as_of: Moment
    days: list[ModelDay]


class _KeyRow(Struct, frozen=True):
    key_id: str
    today_requests: int
    today_tokens: int
    requests: int
    tokens: int


_decode_row = msgspec.json.Decoder(_KeyRow).decode


@router.get("/me/usage", response_model=UsageAnswer, responses=failures(400, 401))
async def usage(
    session: SignedIn, context: ContextOf, reads: CoalescedReadsOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """Requests and tokens of each key, today and over the last 30 IST days."""
    now_ms = context.now_ms()
    days = last_days(now_ms, DAYS_DEFAULT)
    lines = await reads.ask(query("usage"), session.scope, from_day=days.first, to_day=days.last)
    rows = sorted(map(_decode_row, lines), key=lambda row: (-row.tokens, -row.requests, row.key_id))
    keys = [
        {
            "key_id": row.key_id,
            "key_name": context.key_name(session.scope, row.key_id),
            "today": _volume(row.today_requests, row.today_tokens),
            "last_30_days": _volume(row.requests, row.tokens),
        }
        for row in rows
    ]
    totals = {
        "today": _volume(sum(row.today_requests for row in rows), sum(row.today_tokens for row in rows)),
        "last_30_days": _volume(sum(row.requests for row in rows), sum(row.tokens for row in rows)),
    }
    return json_answer({"as_of": moment(now_ms), "keys": keys, "totals": totals})


@router.get("/me/usage/daily", response_model=DailyAnswer, responses=failures(400, 401))
async def usage_daily(
    session: SignedIn, context: ContextOf, reads: CoalescedReadsOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """The day x model series of the last 30 IST days, oldest first."""
    now_ms = context.now_ms()
    days = last_days(now_ms, DAYS_DEFAULT)
    lines = await reads.ask(query("usage_daily"), session.scope, from_day=days.first, to_day=days.last)
    return json_answer({"as_of": moment(now_ms), "days": json_array(lines)})


def _volume(requests: int, tokens: int) -> dict[str, int]:
    return {"requests": requests, "tokens": tokens}
