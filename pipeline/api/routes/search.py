"""`GET /me/search`: an org's requests by the number that answers show, or by the id of their event.

Called by: `api/server/app.py`. Next: `sql/queries/one_event.sql`, `sql/queries/events_by_event_id.sql`.

By number it reads one row. By the event's id it reads the ids of all requests of the org, which costs more the more
there are: two such reads run at once on a server and the others wait, and one that takes too long is given up.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator

from pipeline.api.http.answers import Documented, failures, json_answer
from pipeline.api.http.errors import unavailable
from pipeline.api.http.parameters import BEFORE_MAX, only
from pipeline.api.routes.events import Event, EventRow, shown_event
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, SignedIn, signed_in, turns_of
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.journal import RequestRow

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])

AT_ONCE = 2
FOUND_MAX = 5
ID_LENGTH_MAX = 200
LIMIT_S = 5
_SETTINGS = {"max_threads": 1, "max_execution_time": LIMIT_S}


def _id(text: str) -> str:
    found = text.strip()
    if not 1 <= len(found) <= ID_LENGTH_MAX:
        raise ValueError(f"must have 1 to {ID_LENGTH_MAX} characters")
    return found


Asked = Annotated[
    str,
    Query(description="A request's `id`, as the list has it, or the id of its event"),
    AfterValidator(_id),
]


class SearchAnswer(Documented):
    """The requests that have the id, newest first, at most five."""

    events: list[Event]


@router.get(
    "/me/search",
    response_model=SearchAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only("q"))],
)
async def search(
    session: SignedIn,
    context: ContextOf,
    turns: Annotated[asyncio.Semaphore, Depends(turns_of("search"))],
    q: Asked,
) -> Response:
    """Requests by id: the number in the list, or the id that their event came with."""
    scope = session.scope
    found: list[EventRow | RequestRow] = []
    if q.isascii() and q.isdigit() and int(q) < BEFORE_MAX:
        found += await _by_number(context, scope, int(q))
    if not found:
        try:
            async with asyncio.timeout(LIMIT_S), turns:
                found += await _by_event_id(context, scope, q)
        except TimeoutError:
            raise unavailable() from None
    return json_answer({"events": [shown_event(row, context.key_name(scope, row.key_id)) for row in found]})


async def _by_number(context: AppContext, scope: OrgScope, number: int) -> list[RequestRow]:
    bound = query("one_event").of_org(scope, rid=BEFORE_MAX - 1 - number)
    return await context.engine_of(scope).async_query(
        bound.sql, bound.parameters, row=RequestRow, settings=_SETTINGS
    )


async def _by_event_id(context: AppContext, scope: OrgScope, event_id: str) -> list[EventRow]:
    bound = query("events_by_event_id").of_org(scope, event_id=event_id, rows=FOUND_MAX)
    return await context.engine_of(scope).async_query(
        bound.sql, bound.parameters, row=EventRow, settings=_SETTINGS
    )
