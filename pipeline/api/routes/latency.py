"""`GET /me/activity/latency`: how long served requests took, by model.

Called by: `api/server/app.py`. Next: `sql/queries/latency.sql`.

It reads the requests and no sums, so it costs more the more there are in the range: docs/performance.md says why.
Two such reads run at once on a server and the others wait, so that they never take all handles of the engine.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from msgspec import Struct
from pydantic import Field

from pipeline.api.http.answers import Count, DayText, Documented, Moment, failures, json_answer, moment
from pipeline.api.http.parameters import FILTERS, FiltersOf, bounded_range, only
from pipeline.api.services.dependencies import ContextOf, SignedIn, signed_in, turns_of
from pipeline.clickhouse.queries import query

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])

AT_ONCE = 2
_SETTINGS = {"max_threads": 1}


class ModelLatency(Documented):
    """What served requests of a model took, in milliseconds: half of them at most `p50_ms`, 95 in 100 `p95_ms`.

    Both are latencies that a request had, none is computed between two.
    """

    model: str
    requests: Count
    p50_ms: Count
    p95_ms: Count


class LatencyAnswer(Documented):
    """Models with served requests in the range, by name. Failed requests are left out."""

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    as_of: Moment
    models: list[ModelLatency]


class _LatencyRow(Struct, array_like=True, frozen=True):
    model: str
    requests: int
    p50_ms: int
    p95_ms: int


@router.get(
    "/me/activity/latency",
    response_model=LatencyAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only(*FILTERS))],
)
async def latency(
    session: SignedIn,
    context: ContextOf,
    turns: Annotated[asyncio.Semaphore, Depends(turns_of("latency"))],
    filters: FiltersOf,
) -> Response:
    """Median and 95th percentile of the latency of served requests, exact, by model.

    The range is chosen as for `/me/activity`.
    """
    now_ms = context.now_ms()
    days = bounded_range(filters.first, filters.last, now_ms)
    bound = query("latency").of_org(session.scope, from_day=days.first, to_day=days.last, **filters.values)
    async with turns:
        rows = await context.engine_of(session.scope).async_query(
            bound.sql, bound.parameters, row=_LatencyRow, settings=_SETTINGS
        )
    models = [
        {"model": row.model, "requests": row.requests, "p50_ms": row.p50_ms, "p95_ms": row.p95_ms}
        for row in rows
    ]
    return json_answer({"from": days.first, "to": days.last, "as_of": moment(now_ms), "models": models})
