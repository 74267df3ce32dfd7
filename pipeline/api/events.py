"""`GET /me/activity/events`: single requests, newest first, page by page.

Called by: `api/app.py`. Next: `sql/queries/events_page.sql`.

Newest first is by id, the order of charging. New requests take higher ids, so pages further back never
shift: walking them misses nothing and repeats nothing while more arrive.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from msgspec import Struct

from pipeline.api.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.parameters import (
    BEFORE_MAX,
    LIMIT_DEFAULT,
    Before,
    From,
    KeyId,
    Limit,
    Model,
    To,
    only,
    open_range,
)
from pipeline.api.parts import PartsOf
from pipeline.api.sessions import SignedIn, signed_in
from pipeline.clickhouse.queries import query

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])


class Event(Documented):
    """One request. `provider` is null for a failure before there was one; `key_name` is the current one."""

    id: Count
    at: Moment
    model: str
    provider: str | None
    status: int
    latency_ms: Count
    tokens: Count
    cost_inr: Rupees
    key_id: str
    key_name: str | None


class EventsAnswer(Documented):
    """A page; `next_before` is the next page's `before`, null at the end."""

    events: list[Event]
    next_before: int | None


class _EventRow(Struct, array_like=True, frozen=True):
    id: int
    at_ms: int
    model: str
    provider: str
    status: int
    latency_ms: int
    tokens: int
    cost_nano: int
    key_id: str


@router.get("/me/activity/events", response_model=EventsAnswer, responses=failures(400, 401))
async def events(
    session: SignedIn,
    parts: PartsOf,
    _checked: Annotated[None, Depends(only("from", "to", "model", "key_id", "before", "limit"))],
    from_: From = None,
    to: To = None,
    model: Model = None,
    key_id: KeyId = None,
    before: Before = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """Single requests, newest first. Without `from` or `to` the range is open at that end."""
    days = open_range(from_, to)
    bound = query("events_page").of_org(
        session.scope,
        from_rid=0 if before is None else BEFORE_MAX - before,
        from_day=days.first,
        to_day=days.last,
        model=model or "",
        key_id=key_id or "",
        # One more than asked for tells whether there is a next page.
        rows=limit + 1,
    )
    rows = await parts.engine.async_query(
        bound.sql, bound.parameters, row=_EventRow, settings={"max_threads": 1}
    )
    shown = rows[:limit]
    return json_answer(
        {
            "events": [
                {
                    "id": row.id,
                    "at": moment(row.at_ms),
                    "model": row.model,
                    "provider": row.provider or None,
                    "status": row.status,
                    "latency_ms": row.latency_ms,
                    "tokens": row.tokens,
                    "cost_inr": rupees(row.cost_nano),
                    "key_id": row.key_id,
                    "key_name": parts.key_name(session.scope, row.key_id),
                }
                for row in shown
            ],
            "next_before": shown[-1].id if len(rows) > limit else None,
        }
    )
