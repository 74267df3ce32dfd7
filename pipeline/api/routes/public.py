"""The pages for everybody: `/`, `/rankings` and `/models`. Their numbers stand in them, so they need no script.

Owns: what each of them shows, and where `/` leads who is signed in.
Called by: `api/server/app.py`. Next: `api/pages/price_list.py`, `api/pages/shares.py`, `api/templates/`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import RedirectResponse

from pipeline import ist
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import last_days
from pipeline.api.http.sessions import Session
from pipeline.api.pages.kept_pages import KeptPages
from pipeline.api.pages.price_list import ListedRoute, day_shown, price_list
from pipeline.api.pages.rendering import page, rendered
from pipeline.api.pages.shares import model_shares
from pipeline.api.routes.page_route import PageRoute
from pipeline.api.routes.pages import HOME
from pipeline.api.routes.rankings import DAYS, RECENT_DAYS, Ranking, Rankings, RankingsOf
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, Visitor
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.rupee_text import grouped_count

log = logging.getLogger(__name__)

HOME_SHARES = 5
HOME_PRICES = 8
RANKINGS_LIMIT_S = 3.0
"""`/` has more to show than rankings and does not wait longer for them."""

WINDOWS = {str(RECENT_DAYS): f"{RECENT_DAYS}d", str(DAYS): f"{DAYS}d"}
"""What `days` may be on `/rankings`, and the window that it means."""

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Make = Callable[[], Awaitable[dict[str, Any]]]


async def kept_pages_of(request: Request) -> KeptPages:
    """Return the kept pages of the app that a request came to."""
    kept = request.app.state.kept_pages
    assert isinstance(kept, KeptPages)
    return kept


KeptPagesOf = Annotated[KeptPages, Depends(kept_pages_of)]
AcceptEncoding = Annotated[str, Header()]


@router.get("/")
async def home(
    context: ContextOf,
    session: Visitor,
    rankings: RankingsOf,
    kept: KeptPagesOf,
    accept_encoding: AcceptEncoding = "",
) -> Response:
    """The public face; who is signed in is sent to the overview."""
    if session is not None:
        return RedirectResponse(HOME, 303, {"Vary": "Cookie"})

    async def make() -> str:
        ranking = await _ranking_in_time(rankings)
        return rendered("home.html", None, here="/", **_home(context, ranking))

    return await kept.answer("/", make, accept_encoding)


@router.get("/rankings")
async def rankings_page(
    session: Visitor,
    rankings: RankingsOf,
    kept: KeptPagesOf,
    days: str = str(RECENT_DAYS),
    accept_encoding: AcceptEncoding = "",
) -> Response:
    """The most used models of the last 7 or 30 days, and what each has of all tokens."""
    if days not in WINDOWS:
        raise invalid("days", f"days must be {' or '.join(WINDOWS)}")

    async def values() -> dict[str, Any]:
        return _window(await rankings.latest(), days)

    return await _shown("rankings.html", "/rankings", days, session, kept, values, accept_encoding)


@router.get("/models")
async def models_page(
    context: ContextOf, session: Visitor, kept: KeptPagesOf, accept_encoding: AcceptEncoding = ""
) -> Response:
    """The catalog in rupees."""

    async def values() -> dict[str, Any]:
        now_ms = context.now_ms()
        routes = _price_list(context, now_ms)
        return {"routes": routes, "as_of": _clock(now_ms), **_counts(routes)}

    return await _shown("models.html", "/models", "", session, kept, values, accept_encoding)


async def _shown(
    name: str,
    here: str,
    variant: str,
    session: Session | None,
    kept: KeptPages,
    values: Make,
    accept_encoding: str,
) -> Response:
    """Return a page for a stranger from those that are kept; for a member, whose navigation is another, made anew."""
    if session is not None:
        return page(name, session, here=here, **await values())

    async def make() -> str:
        return rendered(name, None, here=here, **await values())

    return await kept.answer(f"{here} {variant}", make, accept_encoding)


async def _ranking_in_time(rankings: Rankings) -> Ranking | None:
    """Return the rankings, None where they cannot be had soon: the rest of a page is good without."""
    try:
        async with asyncio.timeout(RANKINGS_LIMIT_S):
            return await rankings.latest()
    except (EngineUnavailable, TimeoutError) as error:
        log.warning("the rankings are not available: %s", error)
        return None


def _home(context: AppContext, ranking: Ranking | None) -> dict[str, Any]:
    routes = _price_list(context, context.now_ms())
    month = ranking.windows[f"{DAYS}d"] if ranking is not None else []
    return {
        "shares": None if ranking is None else model_shares(ranking.windows[f"{RECENT_DAYS}d"], HOME_SHARES),
        "days": RECENT_DAYS,
        "prices": _usual_first(routes, [model for model, _, _ in month])[:HOME_PRICES],
        "tokens_shown": grouped_count(sum(tokens for _, _, tokens in month)),
        "requests_shown": grouped_count(sum(requests for _, requests, _ in month)),
        **_counts(routes),
    }


def _usual_first(routes: Sequence[ListedRoute], ranked: Sequence[str]) -> list[ListedRoute]:
    """Return each model's cheapest route, the most used models first, then the others by name."""
    places = {model: place for place, model in enumerate(ranked)}
    cheapest: dict[str, ListedRoute] = {}
    for route in routes:
        cheapest.setdefault(route.model, route)
    return sorted(cheapest.values(), key=lambda route: (places.get(route.model, len(places)), route.model))


def _window(ranking: Ranking, days: str) -> dict[str, Any]:
    covered = last_days(ranking.as_of_ms, int(days))
    first, last = (day_shown(ist.day_start_ms(ist.day_of_date(day))) for day in (covered.first, covered.last))
    return {
        "days": days,
        "windows": list(WINDOWS),
        "shares": model_shares(ranking.windows[WINDOWS[days]]),
        "first": first,
        "last": last,
        "as_of": _clock(ranking.as_of_ms),
    }


def _price_list(context: AppContext, now_ms: int) -> list[ListedRoute]:
    return price_list(context.rates.current_and_announced(now_ms), now_ms)


def _counts(routes: Sequence[ListedRoute]) -> dict[str, int]:
    return {
        "models_count": len({route.model for route in routes}),
        "providers_count": len({route.provider for route in routes}),
    }


def _clock(at_ms: int) -> str:
    """Return an instant's IST time of day."""
    return f"{ist.datetime_of(at_ms):%H:%M:%S}"
