"""`GET /me/activity/events`: single requests, newest first, page by page.

Called by: `api/server/app.py`. Next: `sql/queries/events_page.sql`, `sql/queries/events_page_filtered.sql`.

Newest first is by id, the order of charging. New requests take higher ids, so pages further back never
shift: walking them misses nothing and repeats nothing while more arrive.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct

from pipeline.api.http.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.parameters import (
    BEFORE_MAX,
    FILTERS,
    LIMIT_DEFAULT,
    Before,
    Filters,
    FiltersOf,
    Limit,
    only,
    open_range,
)
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import SignedIn, signed_in
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.journal import PARTITIONS_MAX, RequestRow

WINDOW_IDS = 2**20 * PARTITIONS_MAX
"""How far back a page looks at first: about a million requests of a partition."""

_SETTINGS = {"max_threads": 1, "use_skip_indexes_on_data_read": 0}
"""A part without a row of the page is left out before it is opened, not once it is read."""

_UNFILTERED_SETTINGS = {**_SETTINGS, "optimize_move_to_prewhere": 0}
"""Without filters the first rows read are the page, so no column is worth a look of its own before."""

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


class EventRow(Struct, array_like=True, frozen=True):
    """A request as the query has it: times in milliseconds, money in nano-rupees."""

    id: int
    at_ms: int
    model: str
    provider: str
    status: int
    latency_ms: int
    tokens: int
    cost_nano: int
    key_id: str


def shown_event(row: EventRow | RequestRow, key_name: str | None) -> dict[str, object]:
    """Return a request as an answer shows it, in a list and alone."""
    return {
        "id": row.id,
        "at": moment(row.at_ms),
        "model": row.model,
        "provider": row.provider or None,
        "status": row.status,
        "latency_ms": row.latency_ms,
        "tokens": row.tokens,
        "cost_inr": rupees(row.cost_nano),
        "key_id": row.key_id,
        "key_name": key_name,
    }


class Pages:
    """Reads pages. It first looks a little way back only, which finds most pages, and then all the way."""

    def __init__(self, context: AppContext) -> None:
        """Start without knowing how far ids have come."""
        self.context = context
        self._newest_id: int | None = None

    async def read(self, scope: OrgScope, before: int | None, filters: Filters, rows: int) -> list[EventRow]:
        """Return the newest `rows` requests below an id, newest first.

        Raises ApiError for days that are no range, and what the engine raises.
        """
        days = open_range(filters.first, filters.last)
        page, settings, values = query("events_page"), _UNFILTERED_SETTINGS, dict[str, object]()
        if filters.narrows or filters.first or filters.last:
            page, settings = query("events_page_filtered"), _SETTINGS
            values = {"from_day": days.first, "to_day": days.last, **filters.values}
        from_rid = 0 if before is None else BEFORE_MAX - before

        async def look(to_rid: int) -> list[EventRow]:
            bound = page.of_org(scope, from_rid=from_rid, to_rid=to_rid, rows=rows, **values)
            return await self.context.engine_of(scope).async_query(
                bound.sql, bound.parameters, row=EventRow, settings=settings
            )

        # Where ids have come to is only a hint: newer ones lie before the window's end all the same.
        start = self._newest_id if before is None else before
        found: list[EventRow] = []
        if start is not None and start > WINDOW_IDS:
            found = await look(BEFORE_MAX - start + WINDOW_IDS)
        if len(found) < rows:
            found = await look(BEFORE_MAX - 1)
        if found:
            self._newest_id = max(self._newest_id or 0, found[0].id)
        return found


async def pages_of(request: Request) -> Pages:
    """Return the pages of the app that a request came to."""
    pages = request.app.state.pages
    assert isinstance(pages, Pages)
    return pages


@router.get(
    "/me/activity/events",
    response_model=EventsAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only("before", "limit", *FILTERS))],
)
async def events(
    session: SignedIn,
    pages: Annotated[Pages, Depends(pages_of)],
    filters: FiltersOf,
    before: Before = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """Single requests, newest first. Without `from` or `to` the range is open at that end."""
    # One more than asked for tells whether there is a next page.
    rows = await pages.read(session.scope, before, filters, limit + 1)
    shown = rows[:limit]
    return json_answer(
        {
            "events": [shown_event(row, pages.context.key_name(session.scope, row.key_id)) for row in shown],
            "next_before": shown[-1].id if len(rows) > limit else None,
        }
    )
