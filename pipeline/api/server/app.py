"""The app: every router, around the context it is given.

Owns: which routers there are, and the OpenAPI document.
Called by: `api/server/main.py`. Next: `api/http/edge.py`, then the modules of `api/routes/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI, Response

from pipeline.api.http import errors
from pipeline.api.http.edge import Edge
from pipeline.api.pages.kept_pages import KeptPages
from pipeline.api.routes import (
    activity,
    addresses,
    balance,
    billing,
    catalog,
    csv_files,
    dashboard,
    docs,
    events,
    forecast,
    health,
    key_use,
    keys,
    latency,
    models,
    notices,
    one_event,
    operator,
    orders,
    pages,
    pincodes,
    promos,
    proofs,
    public,
    rankings,
    receipts,
    search,
    statements,
    tokens,
    totals,
    usage,
    webhooks,
    whatif,
)
from pipeline.api.routes.page_route import problem_page
from pipeline.api.routes.rankings import Rankings
from pipeline.api.services.coalesced_reads import CoalescedReads
from pipeline.api.services.context import AppContext
from pipeline.api.services.exports import Exports
from pipeline.api.services.history import History
from pipeline.exposition import MetricsText

ROUTERS = (
    usage.router,
    activity.router,
    totals.router,
    latency.router,
    csv_files.router,
    events.router,
    one_event.router,
    search.router,
    rankings.router,
    catalog.router,
    models.router,
    health.router,
    docs.router,
    billing.router,
    forecast.router,
    addresses.router,
    notices.router,
    promos.router,
    orders.router,
    webhooks.router,
    receipts.router,
    balance.router,
    statements.router,
    proofs.router,
    whatif.router,
    keys.router,
    key_use.router,
    tokens.router,
    pincodes.router,
    pages.router,
    dashboard.router,
    public.router,
    operator.router,
)
"""All of them, whatever the app is made with: the order is that of the OpenAPI document."""

_DESCRIPTION = """Usage, activity and billing of a prepaid AI gateway.

Days are IST (Asia/Kolkata). Money is in rupees, a JSON number exact to nine decimals: read it as a
decimal. Every failure answers with one envelope, `{"error": {"message", "type", "code"}}`: branch on
`code`. `/me/*` takes a session token, as `Authorization: Bearer TOKEN` or in the cookie `br_session`; its GETs take an
access token too, as `Authorization: Bearer brt-...`.
"""


def create_app(context: AppContext) -> FastAPI:
    """Return the app. It opens and closes nothing: whoever made the context does."""
    app = FastAPI(
        title="BharatRouter metering",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.metrics_text = MetricsText(context.metric_groups, context.now_ms)
    app.state.kept_health = health.KeptHealth(context)
    app.state.rankings = Rankings(context)
    app.state.kept_pages = KeptPages(context.now_ms)
    app.state.pages = events.Pages(context)
    app.state.latency_turns = asyncio.Semaphore(latency.AT_ONCE)
    app.state.search_turns = asyncio.Semaphore(search.AT_ONCE)
    app.state.whatif_turns = asyncio.Semaphore(whatif.AT_ONCE)
    app.state.exports = Exports()
    app.state.coalesced_reads = CoalescedReads(context.database)
    app.state.history = None
    if context.accounts is not None:
        kept_from = context.settings.events_kept_from if context.settings else None
        app.state.history = History(context.database, context.accounts, kept_from)
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app, problem_page)
    app.add_middleware(
        Edge,
        requests=context.address_requests,
        now_ms=context.now_ms,
        https=(context.public_url or "").startswith("https://"),
    )
    app.add_api_route("/openapi.json", _document(app), methods=["GET", "HEAD"], include_in_schema=False)
    return app


def _document(app: FastAPI) -> Callable[[], Awaitable[Response]]:
    """Return what answers with the OpenAPI document.

    It is made once, as the framework would write it out for each who asks; and in a thread, as that takes a second.
    """
    made = cache(lambda: msgspec.json.encode(_without_422(app.openapi())))
    one_at_a_time = asyncio.Lock()

    async def openapi() -> Response:
        async with one_at_a_time:
            content = await asyncio.to_thread(made)
        return Response(content, media_type="application/json")

    return openapi


def _without_422(document: dict[str, Any]) -> dict[str, Any]:
    """Take out what the framework says of its own validation errors: here they are 400s, in the envelope."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document
