"""The pages of an org: `/overview`, `/keys`. Their numbers are asked of the JSON API by the browser.

Called by: `api/server/app.py`. Next: `api/templates/`, `api/static/pages/`.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from pipeline import ist
from pipeline.accounts.model import ACTIVE_KEYS_MAX, TRIAL_REQUESTS_PER_DAY, TRIAL_REQUESTS_PER_MINUTE
from pipeline.api.pages.rendering import page
from pipeline.api.routes.page_route import PageRoute
from pipeline.api.services.dependencies import ContextOf, Member
from pipeline.api.services.tokens import TOKENS_MAX

UNKNOWN_GATEWAY = "https://GATEWAY"
"""What a command shows where nobody has said where the gateway is: people put their own in its place."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/overview")
async def overview(context: ContextOf, session: Member) -> Response:
    """How much is left, how long it lasts, what was used, and what is refused now."""
    today = ist.date_of(ist.day_of(context.now_ms()))
    return page("overview.html", session, here="/overview", today=today.isoformat())


@router.get("/keys")
async def keys(context: ContextOf, session: Member) -> Response:
    """The org's keys and access tokens; who may not change them sees them all the same."""
    return page(
        "keys.html",
        session,
        here="/keys",
        gateway_url=(context.gateway_url or UNKNOWN_GATEWAY).rstrip("/"),
        keys_max=ACTIVE_KEYS_MAX,
        tokens_max=TOKENS_MAX,
        trial_day=TRIAL_REQUESTS_PER_DAY,
        trial_minute=TRIAL_REQUESTS_PER_MINUTE,
    )
