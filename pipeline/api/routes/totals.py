"""`GET /me/activity/totals`: a range beside the range before it, and how far behind the figures are.

Called by: `api/server/app.py`. Next: `sql/queries/activity_totals.sql`.

It is what a page that stays open asks again and again, so it reads sums only: a row a period, whatever the range.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Struct, field
from pydantic import Field

from pipeline import ist
from pipeline.api.http.answers import (
    Count,
    DayText,
    Documented,
    Moment,
    failures,
    json_answer,
    moment,
    rupees,
)
from pipeline.api.http.parameters import FILTERS, FIRST_DAY, FiltersOf, Range, bounded_range, only
from pipeline.api.routes.activity import ActivityTotals
from pipeline.api.services.dependencies import CoalescedReadsOf, ContextOf, SignedIn, signed_in
from pipeline.clickhouse.queries import query

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])


class Period(Documented):
    """Some days as filtered, all together."""

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    totals: ActivityTotals


class TotalsAnswer(Documented):
    """A range, and as `previous` as many days right before it; null where those would begin before 1970.

    `behind_ms` is how long the oldest request that is charged, but not in these figures yet, has been waiting: 0 where
    none waits, null where this server does not know, as with a sink that is a process of its own.
    """

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    as_of: Moment
    behind_ms: Count | None
    totals: ActivityTotals
    previous: Period | None


class _PeriodSums(Struct, frozen=True):
    """The sums of one of the two periods."""

    is_asked_for: bool
    requests: int = 0
    tokens: int = 0
    errors: int = 0
    byok_requests: int = 0
    cost_nano: int = field(name="cost_sum_nano", default=0)


_decode_sums = msgspec.json.Decoder(_PeriodSums, strict=False).decode


@router.get(
    "/me/activity/totals",
    response_model=TotalsAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only(*FILTERS))],
)
async def totals(
    session: SignedIn, context: ContextOf, reads: CoalescedReadsOf, filters: FiltersOf
) -> Response:
    """A range's totals beside those of as many days right before it.

    The range is chosen as for `/me/activity`.
    """
    now_ms, behind_ms = context.now_ms(), context.behind_ms(session.org)
    days = bounded_range(filters.first, filters.last, now_ms)
    before = days_before(days)
    lines = await reads.ask(
        query("activity_totals"),
        session.scope,
        from_day=(before or days).first,
        first_day=days.first,
        to_day=days.last,
        **filters.values,
    )
    found = {sums.is_asked_for: sums for sums in map(_decode_sums, lines)}
    return json_answer(
        {
            "from": days.first,
            "to": days.last,
            "as_of": moment(now_ms),
            "behind_ms": behind_ms,
            "totals": _shown(found.get(True)),
            "previous": before
            and {"from": before.first, "to": before.last, "totals": _shown(found.get(False))},
        }
    )


def days_before(days: Range) -> Range | None:
    """Return as many days right before a range, None where they would begin before there are days."""
    first, last = ist.day_of_date(days.first), ist.day_of_date(days.last)
    start = first - (last - first + 1)
    return None if start < ist.day_of_date(FIRST_DAY) else Range(ist.date_of(start), ist.date_of(first - 1))


def _shown(sums: _PeriodSums | None) -> dict[str, object]:
    sums = sums or _PeriodSums(is_asked_for=True)
    return {
        "requests": sums.requests,
        "tokens": sums.tokens,
        "cost_inr": rupees(sums.cost_nano),
        "errors": sums.errors,
        "byok_requests": sums.byok_requests,
    }
