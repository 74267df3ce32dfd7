"""What an org's requests of some days would have cost: `POST /me/whatif` by other routes, at the catalog's rates, and
`GET /me/whatif/providers` at other providers of the same models.

Called by: `api/server/app.py`. Next: `pipeline/whatif.py` prices, `sql/queries/whatif_org.sql` adds up.

They move no money and store nothing. The first is a POST because of its body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline import ist
from pipeline.api.http.answers import Count, DayText, Documented, Rupees, failures, json_answer, rupees
from pipeline.api.http.bodies import ExactRoute
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import From, Range, To, bounded_range, only, plain_day
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, SignedIn, signed_in, turns_of
from pipeline.catalog.apply import NAME_MAX
from pipeline.catalog.rates import RateTable, Route
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.whatif import (
    LeftOut,
    PriceGroup,
    Repriced,
    WhatIf,
    at_other_providers,
    parameters_of_days,
    pieces,
    repriced,
)

router = APIRouter(tags=["billing"], route_class=ExactRoute, dependencies=[Depends(signed_in)])

AT_ONCE = 2
"""It reads every request of its days."""
ROUTES_MAX = 100
_SETTINGS = {"max_threads": 1}

Name = Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
OptionalDay = Annotated[
    date | None, BeforeValidator(lambda value: None if value is None else plain_day(value))
]


class RouteBody(BaseModel):
    """A route to price a model as."""

    model_config = ConfigDict(extra="forbid")
    model: Name
    provider: Name


class WhatIfBody(BaseModel):
    """IST days, 366 at most, the last 30 where left out; and by model what to price its requests as.

    A model's name alone means that model at the provider that served, else at the only one that has it.
    """

    model_config = ConfigDict(extra="forbid")
    from_: Annotated[OptionalDay, Field(alias="from")] = None
    to: OptionalDay = None
    routes: Annotated[dict[Name, Name | RouteBody], Field(max_length=ROUTES_MAX)] = {}


class RepricedModel(Documented):
    """A model's charged requests of one route to price them as."""

    model: str
    as_model: str
    as_provider: str
    requests: Count
    actual_inr: Rupees
    whatif_inr: Rupees


class WhatIfAnswer(Documented):
    """What charged requests did cost, and would have cost, in all and by model, the dearest first.

    A request is priced by the rate in force at its time, or by the route's first one where that starts later. Free
    requests stay free. Models that are not in `routes` are priced as the routes that served them: exactly what they cost.
    """

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    actual_inr: Rupees
    whatif_inr: Rupees
    models: list[RepricedModel]


class LeftOutModel(Documented):
    """A model's charged requests by the provider that served them, which are compared with nothing."""

    model: str
    provider: str
    requests: Count
    actual_inr: Rupees


class ProvidersAnswer(Documented):
    """What charged requests of each model cost, and would have cost at the cheapest other provider of the same model.

    Only where that is a fair comparison: the same model, so the same tokens, at a provider that has had a price since the
    first of the days. The others are in `left_out`. Free requests are in neither.
    """

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    models: list[RepricedModel]
    left_out: list[LeftOutModel]


@router.post(
    "/me/whatif",
    response_model=WhatIfAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only())],
)
async def whatif(
    session: SignedIn,
    context: ContextOf,
    body: WhatIfBody,
    turns: Annotated[asyncio.Semaphore, Depends(turns_of("whatif"))],
) -> Response:
    """What the requests of some days would have cost by other routes, exactly. It changes nothing."""
    days = bounded_range(body.from_, body.to, context.now_ms())
    routes = wanted_routes(body.routes, context.rates)
    groups = await _groups(context, session.scope, days, turns)
    return json_answer(answer(repriced(groups, context.rates, routes), days))


@router.get(
    "/me/whatif/providers",
    response_model=ProvidersAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only("from", "to"))],
)
async def providers(
    session: SignedIn,
    context: ContextOf,
    turns: Annotated[asyncio.Semaphore, Depends(turns_of("whatif"))],
    from_: From = None,
    to: To = None,
) -> Response:
    """What the same requests would have cost at the cheapest other provider of each model, the dearest model first."""
    days = bounded_range(from_, to, context.now_ms())
    groups = await _groups(context, session.scope, days, turns)
    from_ms = ist.day_start_ms(ist.day_of_date(days.first))
    found = at_other_providers(groups, context.rates, from_ms)
    return json_answer(
        {
            "from": days.first,
            "to": days.last,
            "models": [_shown(each) for each in found.models],
            "left_out": [_left_out(each) for each in found.left_out],
        }
    )


async def _groups(
    context: AppContext, scope: OrgScope, days: Range, turns: asyncio.Semaphore
) -> list[PriceGroup]:
    """Return an org's charged requests of some days, added up where all rates price them alike.

    AT_ONCE pieces of the days are read at a time, and each waits for its turn anew: so whoever asks about a month is not
    behind all of a year.
    """
    left, groups = pieces(days.first, days.last), list[PriceGroup]()

    async def read_on() -> None:
        for first, last in left:
            bound = query("whatif_org").of_org(scope, **parameters_of_days(context.rates, first, last))
            async with turns:
                groups.extend(
                    await context.engine_of(scope).async_query(
                        bound.sql, bound.parameters, row=PriceGroup, settings=_SETTINGS
                    )
                )

    try:
        await asyncio.gather(*(read_on() for _ in range(AT_ONCE)))
    finally:
        # Where one failed the other begins no further piece.
        left.close()
    return groups


def answer(found: WhatIf, days: Range) -> dict[str, object]:
    """Return the answer for what was found about some days; `metering whatif` prints the same."""
    return {
        "from": days.first,
        "to": days.last,
        "actual_inr": rupees(found.actual_nano),
        "whatif_inr": rupees(found.whatif_nano),
        "models": [_shown(each) for each in found.models],
    }


def wanted_routes(wanted: Mapping[str, str | RouteBody], rates: RateTable) -> dict[str, Route]:
    """Return the routes that a body asks for. Raises ApiError 400 for one that has no rate, or is not named enough.

    The provider is empty where it is the one that served: every provider that has the model's name has it.
    """
    providers: dict[str, set[str]] = {}
    for rate in rates:
        providers.setdefault(rate.model, set()).add(rate.provider)
    return {model: _route(model, to, providers) for model, to in wanted.items()}


def _route(model: str, to: str | RouteBody, providers: Mapping[str, set[str]]) -> Route:
    if isinstance(to, RouteBody):
        if to.provider not in providers.get(to.model, ()):
            raise invalid("routes", f"the catalog has no rate of {to.model!r} at {to.provider!r}")
        return to.model, to.provider
    known = providers.get(to, set())
    if not known:
        raise invalid("routes", f"the catalog has no model {to!r}")
    if len(known) == 1:
        return to, next(iter(known))
    if providers.get(model, set()) <= known:
        return to, ""
    names = ", ".join(sorted(known))
    raise invalid("routes", f"{to!r} is served by {names}: say which with {{model, provider}}")


def _shown(each: Repriced) -> dict[str, object]:
    return {
        "model": each.model,
        "as_model": each.as_model,
        "as_provider": each.as_provider,
        "requests": each.requests,
        "actual_inr": rupees(each.actual_nano),
        "whatif_inr": rupees(each.whatif_nano),
    }


def _left_out(each: LeftOut) -> dict[str, object]:
    return {
        "model": each.model,
        "provider": each.provider,
        "requests": each.requests,
        "actual_inr": rupees(each.actual_nano),
    }
