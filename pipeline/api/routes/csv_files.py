"""`GET /me/activity/events.csv` and `/me/activity.csv`: a range of requests, or of their sums, as a file.

Owns: the columns of both files, and that they are sent piece by piece.
Called by: `api/server/app.py`. Next: `sql/queries/events_csv.sql`, `sql/queries/activity_csv.sql`.

The engine writes the lines, and no more than a piece of a file is in memory. The first piece is read before the answer
begins, so what is wrong is still told; a failure after that breaks the connection off, so that no half file looks whole.
The form is RFC 4180's but for line feeds alone between lines; amounts are in rupees (INR), times in IST with the offset.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.api.http.answers import PRIVATE, attachment, failures
from pipeline.api.http.cells import FORMULA, safe_cell
from pipeline.api.http.parameters import BEFORE_MAX, FILTERS, Filters, FiltersOf, Range, bounded_range, only
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, SignedIn, signed_in
from pipeline.api.services.exports import Exports
from pipeline.clickhouse.queries import OrgScope, query

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in), Depends(only(*FILTERS))])

EVENT_COLUMNS = (
    "at_ist",
    "model",
    "provider",
    "status",
    "latency_ms",
    "tokens",
    "cost_inr",
    "key_id",
    "key_name",
    "id",
)
DAY_COLUMNS = (
    "day_ist",
    "model",
    "key_id",
    "key_name",
    "provider",
    "requests",
    "tokens",
    "cost_inr",
    "errors",
)
ROWS_A_PIECE = 20_000
DAYS_A_PIECE = 31

_DOCUMENTED = {200: {"content": {"text/csv": {}}, "description": "The file"}, **failures(400, 401, 429)}
_SETTINGS = {"max_threads": 1}


async def exports_of(request: Request) -> Exports:
    """Return the files under way of the app that a request came to."""
    exports = request.app.state.exports
    assert isinstance(exports, Exports)
    return exports


ExportsOf = Annotated[Exports, Depends(exports_of)]


@router.get("/me/activity/events.csv", response_class=Response, responses=_DOCUMENTED)
async def events_csv(
    session: SignedIn, context: ContextOf, exports: ExportsOf, filters: FiltersOf
) -> StreamingResponse:
    """The requests of a range, newest first; one file of an org at a time.

    The range is chosen as for `/me/activity`. Requests that come meanwhile are not in it.
    """
    days = bounded_range(filters.first, filters.last, context.now_ms())
    pieces = _pieces_of_events(context, exports, session.scope, days, filters)
    return await _file("requests", session.org, days, EVENT_COLUMNS, pieces, exports)


@router.get("/me/activity.csv", response_class=Response, responses=_DOCUMENTED)
async def activity_csv(
    session: SignedIn, context: ContextOf, exports: ExportsOf, filters: FiltersOf
) -> StreamingResponse:
    """Requests, tokens, cost and errors by day, model, key and provider, oldest first; one file of an org at a time.

    The range is chosen as for `/me/activity`.
    """
    days = bounded_range(filters.first, filters.last, context.now_ms())
    pieces = _pieces_of_days(context, exports, session.scope, days, filters)
    return await _file("usage", session.org, days, DAY_COLUMNS, pieces, exports)


async def _file(
    what: str,
    org: str,
    days: Range,
    columns: tuple[str, ...],
    pieces: AsyncIterator[bytes],
    exports: Exports,
) -> StreamingResponse:
    """Return the answer that sends the pieces after a line of column names. Raises what the first piece raises."""

    async def whole() -> AsyncGenerator[bytes]:
        with exports.one_of(org):
            head = ",".join(columns).encode() + b"\n"
            async for piece in pieces:
                yield head + piece
                head = b""
            if head:
                yield head

    lines = whole()
    first = await anext(lines)
    name = f"{what}_{org}_{days.first}_{days.last}.csv"
    headers = {"Cache-Control": PRIVATE, "Content-Disposition": attachment(name)}
    return FileAnswer(first, lines, headers)


class FileAnswer(StreamingResponse):
    """A file, piece by piece, of which the first is read already. Its place among `Exports` is free again however it ends, as soon as it does."""

    def __init__(
        self,
        first: bytes,
        more: AsyncGenerator[bytes],
        headers: dict[str, str],
        media_type: str = "text/csv; charset=utf-8",
    ) -> None:
        """Send the first piece, then those after it."""
        self._more = more
        super().__init__(_after(first, more), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, and let go of what makes the pieces however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Where the client has left, the pieces would be let go of when they are collected as garbage.
            await self._more.aclose()


async def _after(first: bytes, more: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in more:
        yield piece


async def _pieces_of_events(
    context: AppContext, exports: Exports, scope: OrgScope, days: Range, filters: Filters
) -> AsyncIterator[bytes]:
    names = await _key_names(context, scope, days)
    from_rid = 0
    while True:
        bound = query("events_csv").of_org(
            scope, **_values(days, filters, names), from_rid=from_rid, rows=ROWS_A_PIECE
        )
        async with exports.reading:
            piece = await context.engine_of(scope).async_bytes(
                bound.sql, bound.parameters, output="CSV", settings=_SETTINGS
            )
        if not piece:
            return
        yield piece
        # The id is what a piece ends with; ids count down, and `rid` counts up to 2^53 - 1.
        from_rid = BEFORE_MAX - int(piece[piece.rindex(b",") + 1 :])


async def _pieces_of_days(
    context: AppContext, exports: Exports, scope: OrgScope, days: Range, filters: Filters
) -> AsyncIterator[bytes]:
    names = await _key_names(context, scope, days)
    first = days.first
    while first <= days.last:
        last = min(days.last, _later(first, DAYS_A_PIECE - 1))
        bound = query("activity_csv").of_org(scope, **_values(Range(first, last), filters, names))
        async with exports.reading:
            piece = await context.engine_of(scope).async_bytes(
                bound.sql, bound.parameters, output="CSV", settings=_SETTINGS
            )
        if piece:
            yield piece
        first = _later(last, 1)


def _later(day: date, days: int) -> date:
    return day + timedelta(days=days)


def _values(days: Range, filters: Filters, names: dict[str, str]) -> dict[str, object]:
    return {
        "from_day": days.first,
        "to_day": days.last,
        **filters.values,
        "formula": FORMULA,
        "key_ids": list(names),
        "key_names": list(names.values()),
    }


async def _key_names(context: AppContext, scope: OrgScope, days: Range) -> dict[str, str]:
    """Return the names of the keys that were used, as cells, by id: at least one, as the engine wants no empty list."""
    bound = query("keys_used").of_org(scope, from_day=days.first, to_day=days.last)
    used = await context.engine_of(scope).async_query(
        bound.sql, bound.parameters, row=tuple[str], settings=_SETTINGS
    )
    names = {key_id: safe_cell(context.key_name(scope, key_id) or "") for (key_id,) in used}
    return names or {"": ""}
