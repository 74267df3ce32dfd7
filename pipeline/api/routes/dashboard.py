"""The pages of an org: `/overview`, `/activity`, `/activity/{id}`, `/keys`, `/statements`, `/notices`. The browser asks the JSON API for their numbers.

Called by: `api/server/app.py`. Next: `api/templates/`, and of the scripts in `api/static/pages/` those of the same names.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from pipeline import ist, unusual
from pipeline.accounts.model import ACTIVE_KEYS_MAX, TRIAL_REQUESTS_PER_DAY, TRIAL_REQUESTS_PER_MINUTE
from pipeline.accounts.notices import NEAR_PERCENT, SPENT_PERCENT
from pipeline.accounts.telling import HISTORY_MS
from pipeline.accounts.webhooks import URL_LENGTH_MAX
from pipeline.api.http.errors import ApiError
from pipeline.api.http.parameters import FILTERS, Range, bounded_range, filters_of_form, plain_day
from pipeline.api.pages.rendering import page
from pipeline.api.routes.one_event import Id, row_of
from pipeline.api.routes.page_route import PageRoute
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, Member
from pipeline.api.services.tokens import TOKENS_MAX
from pipeline.rupee_text import grouped
from pipeline.webhook.sending import LIMIT_S as WEBHOOK_LIMIT_S

UNKNOWN_GATEWAY = "https://GATEWAY"
"""What a command shows where nobody has said where the gateway is: people put their own in its place."""

WINDOW_DAYS = 30
"""How many days the overview tells of, and as many before them to compare them with."""

MEASURES = ("cost", "tokens", "requests")
"""What the chart can show, the first where the address says nothing."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/overview")
async def overview(context: ContextOf, session: Member) -> Response:
    """How much is left, how long it lasts, what was used, and what is refused now."""
    today = ist.date_of(ist.day_of(context.now_ms()))
    asks = (
        f"/me/activity?from={today - timedelta(days=2 * WINDOW_DAYS - 1)}",
        "/me/usage",
        "/me/billing?limit=1",
        "/me/forecast",
        "/me/keys",
    )
    return page("overview.html", session, here="/overview", asks=asks, today=today.isoformat())


@router.get("/activity")
async def activity(request: Request, context: ContextOf, session: Member) -> Response:
    """What was used and what it cost over a range of days, with filters; 400 for a bad one, with all of them kept."""
    fields = request.query_params.multi_items()
    show = request.query_params.get("show", "")
    days, problem = _chosen([field for field in fields if field[0] != "show"], context.now_ms())
    given = {name: request.query_params.get(name, "") for name in FILTERS}
    if days is not None:
        given |= {"from": days.first.isoformat(), "to": days.last.isoformat()}
    return page(
        "activity.html",
        session,
        status=200 if problem is None else problem.code.status,
        here="/activity",
        asks=() if problem else _asked_of_activity(given),
        today=_today(context),
        show=show if show in MEASURES else MEASURES[0],
        given=given,
        # A browser shows nothing of such a text in a field for days.
        no_days=[name for name in ("from", "to") if given[name] and not _is_day(given[name])],
        problem=problem,
    )


@router.get("/activity/{id}")
async def one_request(context: ContextOf, session: Member, id: Id) -> Response:  # noqa: A002 - the path's own name
    """One request and why it cost what it cost; 404 for one that the org does not have."""
    row = await row_of(context, session.scope, id)
    return page("request.html", session, here="/activity", asks=(f"/me/activity/events/{row.id}",), id=row.id)


@router.get("/keys")
async def keys(context: ContextOf, session: Member) -> Response:
    """The org's keys and access tokens; who may not change them sees them all the same."""
    return page(
        "keys.html",
        session,
        here="/keys",
        asks=("/me/keys", "/me/tokens", "/me/keys/use", "/me/usage"),
        gateway_url=(context.gateway_url or UNKNOWN_GATEWAY).rstrip("/"),
        keys_max=ACTIVE_KEYS_MAX,
        tokens_max=TOKENS_MAX,
        trial_day=TRIAL_REQUESTS_PER_DAY,
        trial_minute=TRIAL_REQUESTS_PER_MINUTE,
    )


@router.get("/statements")
async def statements(session: Member) -> Response:
    """The months of the org; each leads to its statement, and to its file."""
    return page("statements.html", session, here="/statements", asks=("/me/statements",))


@router.get("/notices")
async def notices(session: Member) -> Response:
    """What the org is told of without asking, and where; an owner changes it, the others see it."""
    return page(
        "notices.html",
        session,
        here="/notices",
        asks=("/me/notices",),
        owner=session.role == "owner",
        near=NEAR_PERCENT,
        spent=SPENT_PERCENT,
        hour_least=grouped(unusual.AT_LEAST_NANO),
        hour_times=unusual.TIMES,
        history_days=HISTORY_MS // ist.DAY_MS,
        url_max=URL_LENGTH_MAX,
        limit_s=round(WEBHOOK_LIMIT_S),
    )


def _chosen(fields: list[tuple[str, str]], now_ms: int) -> tuple[Range | None, ApiError | None]:
    """Return the days that the fields of the form choose, or else what is wrong with the fields."""
    try:
        filters = filters_of_form(fields)
        return bounded_range(filters.first, filters.last, now_ms), None
    except ApiError as error:
        return None, error


def _asked_of_activity(given: dict[str, str]) -> tuple[str, ...]:
    """Return what the script of the activity page asks first, for what the form has."""
    query = urlencode({name: given[name] for name in FILTERS if given[name]})
    return (f"/me/activity/totals?{query}", f"/me/activity?{query}", f"/me/activity/events?{query}&limit=50")


def _is_day(text: str) -> bool:
    try:
        plain_day(text)
    except ValueError:
        return False
    return True


def _today(context: AppContext) -> str:
    return ist.date_of(ist.day_of(context.now_ms())).isoformat()
