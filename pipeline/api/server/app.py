"""The app: every router, around the parts it is given.

Owns: which routers there are, and the OpenAPI document.
Called by: the composition root with `Parts`. Next: `api/http/edge.py`, then the routers.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from pipeline.api.http import errors
from pipeline.api.http.edge import Edge
from pipeline.api.routes import activity, catalog, docs, events, health, one_event, rankings, usage
from pipeline.api.routes.rankings import Rankings
from pipeline.api.services.coalesced_reads import CoalescedReads
from pipeline.api.services.context import Parts

__all__ = ["Parts", "create_app"]

ROUTERS = (
    usage.router,
    activity.router,
    events.router,
    one_event.router,
    rankings.router,
    catalog.router,
    health.router,
    docs.router,
)

_DESCRIPTION = """Usage, activity and billing of a prepaid AI gateway.

Days are IST (Asia/Kolkata). Money is in rupees, a JSON number exact to nine decimals: read it as a
decimal. Every failure answers with one envelope, `{"error": {"message", "type", "code"}}`: branch on
`code`. `/me/*` takes a session token, as `Authorization: Bearer TOKEN` or in the cookie `br_session`.
"""


def create_app(parts: Parts) -> FastAPI:
    """Return the app. It opens and closes nothing: whoever made the parts does."""
    app = FastAPI(
        title="BharatRouter metering",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.state.rankings = Rankings(parts)
    app.state.pages = events.Pages(parts)
    app.state.coalesced_reads = CoalescedReads(parts.engine)
    for router in (*ROUTERS, *parts.routers):
        app.include_router(router)
    errors.install(app)
    app.add_middleware(Edge)
    generated = app.openapi

    def document() -> dict[str, Any]:
        return _without_422(generated())

    app.__dict__["openapi"] = document
    return app


def _without_422(document: dict[str, Any]) -> dict[str, Any]:
    """Take out what the framework says of its own validation errors: here they are 400s, in the envelope."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document
