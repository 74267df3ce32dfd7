"""`GET /me/activity`: spend and volume over a range of IST days, with filters.

Called by: `api/server/app.py`. Next: `sql/queries/activity.sql`, which computes all of it in one pass, so that
the parts of an answer always agree with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import Struct, field
from pydantic import Field

from pipeline.api.http.answers import (
    Count,
    DayText,
    Documented,
    Moment,
    Rupees,
    failures,
    json_answer,
    json_array,
    moment,
    rupees,
)
from pipeline.api.http.parameters import FILTERS, FiltersOf, bounded_range, only
from pipeline.api.services.coalesced_reads import Lines
from pipeline.api.services.context import AppContext
from pipeline.api.services.dependencies import CoalescedReadsOf, ContextOf, SignedIn, signed_in
from pipeline.clickhouse.queries import OrgScope, query

router = APIRouter(tags=["activity"], dependencies=[Depends(signed_in)])

TOP = 10

KEYS = 2
"""The `kind` of the sums by key."""


class ActivityDay(Documented):
    """One model on one IST day. `cost_inr` is what was debited, here and below."""

    day: DayText
    model: str
    requests: Count
    tokens: Count
    cost_inr: Rupees
    errors: Count


class TopModel(Documented):
    """One model over the range."""

    model: str
    requests: Count
    tokens: Count
    cost_inr: Rupees


class TopKey(Documented):
    """One key over the range."""

    key_id: str
    key_name: str | None
    requests: Count
    tokens: Count
    cost_inr: Rupees


class ModelProvider(Documented):
    """What a provider served of a model; `provider` is null for failures before there was one."""

    model: str
    provider: str | None
    requests: Count
    tokens: Count
    cost_inr: Rupees
    errors: Count


class ActivityTotals(Documented):
    """The range as filtered, all together."""

    requests: Count
    tokens: Count
    cost_inr: Rupees
    errors: Count
    byok_requests: Count


class NamedKey(Documented):
    """A key for the filter menu."""

    key_id: str
    key_name: str | None


class ActivityAnswer(Documented):
    """Activity as filtered; `models`, `keys` and `providers` are those of the range, the filters aside."""

    from_: Annotated[DayText, Field(alias="from")]
    to: DayText
    as_of: Moment
    days: list[ActivityDay]
    top_models: list[TopModel]
    top_keys: list[TopKey]
    model_providers: list[ModelProvider]
    totals: ActivityTotals
    models: list[str]
    keys: list[NamedKey]
    providers: list[str]


class _Sums(Struct, frozen=True):
    """One line of the sums: of a key, or of a model and provider. Zeros where the filters leave it out."""

    kind: int
    key_id: str
    model: str
    provider: str
    requests: int
    tokens: int
    errors: int
    byok_requests: int
    cost_nano: int = field(name="cost_sum_nano")


@dataclass(slots=True)
class _Total:
    """Sums of several lines, in Python's integers, which have no end."""

    requests: int = 0
    tokens: int = 0
    cost_nano: int = 0
    errors: int = 0
    byok_requests: int = 0

    def add(self, sums: _Sums) -> None:
        self.requests += sums.requests
        self.tokens += sums.tokens
        self.cost_nano += sums.cost_nano
        self.errors += sums.errors
        self.byok_requests += sums.byok_requests


_decode_sums = msgspec.json.Decoder(_Sums, strict=False).decode

_SERIES, _SERIES_FROM, _NO_REQUESTS = b'{"kind":1,', b',"day":', b',"requests":0,'
"""How a line of the series starts, where its columns begin, and what it has where the filters leave it out.

A quote within a name is escaped, so no name can look like these.
"""


@router.get(
    "/me/activity",
    response_model=ActivityAnswer,
    responses=failures(400, 401),
    dependencies=[Depends(only(*FILTERS))],
)
async def activity(
    session: SignedIn, context: ContextOf, reads: CoalescedReadsOf, filters: FiltersOf
) -> Response:
    """Spend and volume by day, model, key and provider.

    The last 30 IST days where no range is given; without `to` it ends today, without `from` it is the
    30 days up to `to`; 366 days at most.
    """
    now_ms = context.now_ms()
    days = bounded_range(filters.first, filters.last, now_ms)
    lines = await reads.ask(
        query("activity"), session.scope, from_day=days.first, to_day=days.last, **filters.values
    )
    sums, series = _split(lines)
    if filters.narrows:
        series = [line for line in series if _NO_REQUESTS not in line]
    return json_answer(
        {
            "from": days.first,
            "to": days.last,
            "as_of": moment(now_ms),
            "days": json_array(series),
            **_summaries(context, session.scope, sums),
        }
    )


def _split(lines: Lines) -> tuple[list[_Sums], Lines]:
    """Return the sums, and the day series unread, cut to the columns of the answer: it comes first."""
    series = [b"{" + line[line.index(_SERIES_FROM) + 1 :] for line in lines if line.startswith(_SERIES)]
    return [_decode_sums(line) for line in lines[len(series) :]], series


def _summaries(context: AppContext, scope: OrgScope, sums: list[_Sums]) -> dict[str, object]:
    keys = [line for line in sums if line.kind == KEYS]
    routes = [line for line in sums if line.kind != KEYS]
    models: defaultdict[str, _Total] = defaultdict(_Total)
    totals = _Total()
    for line in routes:
        models[line.model].add(line)
        totals.add(line)
    top_models = sorted((item for item in models.items() if item[1].requests), key=_most_cost_first)
    top_keys = sorted(((line.key_id, line) for line in keys if line.requests), key=_most_cost_first)
    return {
        "top_models": [{"model": name, **_spent(total)} for name, total in top_models[:TOP]],
        "top_keys": [
            {"key_id": key_id, "key_name": context.key_name(scope, key_id), **_spent(line)}
            for key_id, line in top_keys[:TOP]
        ],
        "model_providers": _model_providers(routes),
        "totals": {**_spent(totals), "errors": totals.errors, "byok_requests": totals.byok_requests},
        "models": sorted(models),
        "keys": [
            {"key_id": key_id, "key_name": context.key_name(scope, key_id)}
            for key_id in sorted(line.key_id for line in keys)
        ],
        "providers": sorted({line.provider for line in routes if line.provider}),
    }


def _model_providers(routes: Iterable[_Sums]) -> list[dict[str, object]]:
    served = sorted((line for line in routes if line.requests), key=lambda line: (line.model, line.provider))
    return [
        {"model": line.model, "provider": line.provider or None, **_spent(line), "errors": line.errors}
        for line in served
    ]


def _spent(sums: _Sums | _Total) -> dict[str, object]:
    return {"requests": sums.requests, "tokens": sums.tokens, "cost_inr": rupees(sums.cost_nano)}


def _most_cost_first(item: tuple[str, _Sums | _Total]) -> tuple[int, int, str]:
    name, sums = item
    return (-sums.cost_nano, -sums.tokens, name)
