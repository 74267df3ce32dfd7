"""`GET /me/activity/events/{id}`: one request, and why it cost what it cost.

Owns: what of a row and its rate explains a cost.
Called by: `api/server/app.py`. Next: `sql/queries/one_event.sql` has the row, `catalog/rating.py` the lines.

The row names its rate by the rate's start, and keeps all counts that a cost depends on. A rate that has been in
force never changes, so the lines of an old request are as they were on the day it was charged.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from msgspec import Raw
from pydantic import BeforeValidator, Field, create_model

from pipeline.api.http.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.errors import not_found, unavailable
from pipeline.api.http.parameters import BEFORE_MAX, only, plain_number
from pipeline.api.routes.events import Event, shown_event
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import ContextOf, SignedIn, signed_in
from pipeline.catalog.rating import REQUEST, CostLine, Free, cost_lines, why_free
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.journal import RequestRow
from pipeline.money import format_rate
from pipeline.usage import CLASSES, OTHER_CLASSES

log = logging.getLogger(__name__)

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])

USAGE_COLUMNS = (
    "prompt_tokens",
    "cached_tokens",
    *(each.column for each in OTHER_CLASSES if each.whole == "prompt"),
    "completion_tokens",
    *(each.column for each in OTHER_CLASSES if each.whole == "completion"),
    "reasoning_tokens",
)
_USAGE_FIELDS: dict[str, Any] = dict.fromkeys(USAGE_COLUMNS, (Count, ...))
UsageCounts = create_model("UsageCounts", __base__=Documented, **_USAGE_FIELDS)
"""The tokens that were counted, as they were charged."""


class CostPart(Documented):
    """A part of the cost: tokens of a class at their price, or the fee for the request at its own (`inr`)."""

    class_: Literal[*CLASSES, REQUEST] = Field(alias="class")  # type: ignore[valid-type]
    quantity: Count
    inr_per_mtok: Rupees = None
    inr: Rupees = None
    amount_inr: Rupees


class Cost(Documented):
    """Why the request cost what it cost; the lines add up to the total, exactly.

    `free` says why it cost nothing. `rate_from` names the rate in force at the request's own time, `tier_above` the
    number of prompt tokens above which its tier begins.
    """

    free: Free | None
    rate_from: Moment | None
    tier_above: Count | None
    lines: list[CostPart]
    total_inr: Rupees


class OneEvent(Event):
    """One request. `irregular` says that the counts of its usage contradicted each other."""

    event_id: str
    source: str
    tier: str
    byok: bool
    error_code: str | None
    ttft_ms: Count | None
    stream: bool
    posted_at: Moment
    irregular: bool
    usage: UsageCounts
    cost: Cost


Id = Annotated[
    int,
    Path(ge=0, lt=BEFORE_MAX, description="The request's `id`, as the list has it"),
    BeforeValidator(plain_number),
]


@router.get(
    "/me/activity/events/{id}",
    response_model=OneEvent,
    responses=failures(400, 401, 404),
    dependencies=[Depends(only())],
)
async def one_event(session: SignedIn, context: ContextOf, id: Id) -> Response:  # noqa: A002 - the path's own name
    """One request: what was used, and what each part of it cost."""
    row = await row_of(context, session.scope, id)
    return json_answer(
        {
            **shown_event(row, context.key_name(session.scope, row.key_id)),
            "event_id": row.event_id,
            "source": row.source,
            "tier": row.tier,
            "byok": row.byok,
            "error_code": row.error_code or None,
            "ttft_ms": row.ttft_ms,
            "stream": row.stream,
            "posted_at": moment(row.posted_ms),
            "irregular": row.irregular > 0,
            "usage": {column: getattr(row, column) for column in USAGE_COLUMNS},
            "cost": _explained(row, context),
        }
    )


async def row_of(context: AppContext, scope: OrgScope, public_id: int) -> RequestRow:
    """Return a request of an org. Raises ApiError 404 where the org has none with this id, and what the engine raises."""
    bound = query("one_event").of_org(scope, rid=BEFORE_MAX - 1 - public_id)
    rows = await context.engine_of(scope).async_query(
        bound.sql, bound.parameters, row=RequestRow, settings={"max_threads": 1}
    )
    if not rows:
        raise not_found("the org has no such request")
    [row] = rows
    return row


def _explained(row: RequestRow, context: AppContext) -> dict[str, object]:
    """Return what a request's cost is made of. Raises ApiError where its rate is not known here."""
    free = why_free(row)
    if free is not None:
        return {"free": free, "rate_from": None, "tier_above": None, "lines": [], "total_inr": rupees(0)}
    rate = context.rates.starting((row.model, row.provider), row.rate_from_ms)
    if rate is None:
        log.error("request %d names a rate that the catalog does not have", row.id)
        raise unavailable()
    lines = cost_lines(rate, row.counts)
    if sum(line.amount_nano for line in lines) != row.cost_nano:
        log.error("request %d did not cost what its rate comes to: run `metering verify`", row.id)
        raise unavailable()
    tier = rate.tier_of(row.prompt_tokens)
    return {
        "free": None,
        "rate_from": moment(rate.from_ms),
        "tier_above": tier.above_prompt_tokens if tier is not None else None,
        "lines": [_line(line) for line in lines],
        "total_inr": rupees(row.cost_nano),
    }


def _line(line: CostLine) -> dict[str, object]:
    price = (
        {"inr": rupees(line.rate_nano)}
        if line.name == REQUEST
        else {"inr_per_mtok": Raw(format_rate(line.rate_nano).encode())}
    )
    return {"class": line.name, "quantity": line.quantity, **price, "amount_inr": rupees(line.amount_nano)}
