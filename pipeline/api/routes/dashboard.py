"""The pages of an org: `/overview`. Their numbers are asked of the JSON API by the browser.

Called by: `api/server/app.py`. Next: `api/templates/`, `api/static/pages/overview.js`.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from pipeline import ist
from pipeline.api.pages.rendering import page
from pipeline.api.routes.page_route import PageRoute
from pipeline.api.services.dependencies import ContextOf, Member

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/overview")
async def overview(context: ContextOf, session: Member) -> Response:
    """How much is left, how long it lasts, what was used, and what is refused now."""
    today = ist.date_of(ist.day_of(context.now_ms()))
    return page("overview.html", session, here="/overview", today=today.isoformat())
