"""`GET /v1/catalog`: the rates in force and those announced, for everyone.

Called by: `api/server/app.py`. Next: `catalog/rates.py`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from msgspec import Raw

from pipeline.api.http.answers import Documented, Moment, Rupees, failures, json_answer, moment
from pipeline.api.http.parameters import only
from pipeline.api.services.dependencies import ContextOf
from pipeline.money import format_rate

router = APIRouter(tags=["public"])

_CACHE_CONTROL = "public, max-age=30"


class RouteRate(Documented):
    """A route's rate from `effective_from` on, in rupees per million tokens."""

    model: str
    provider: str
    effective_from: Moment
    input_inr_per_mtok: Rupees
    cached_input_inr_per_mtok: Rupees
    output_inr_per_mtok: Rupees


class CatalogAnswer(Documented):
    """For each route the rate in force, if any, then those announced, in the order of their start."""

    as_of: Moment
    routes: list[RouteRate]


@router.get("/v1/catalog", response_model=CatalogAnswer, responses=failures(400))
async def catalog(context: ContextOf, _checked: Annotated[None, Depends(only())]) -> Response:
    """The rates in force and those announced. No session."""
    now_ms = context.now_ms()
    routes = [
        {
            "model": rate.model,
            "provider": rate.provider,
            "effective_from": moment(rate.from_ms),
            "input_inr_per_mtok": _per_mtok(rate.input_nano),
            "cached_input_inr_per_mtok": _per_mtok(rate.cached_nano),
            "output_inr_per_mtok": _per_mtok(rate.output_nano),
        }
        for rate in context.rates.current_and_announced(now_ms)
    ]
    return json_answer({"as_of": moment(now_ms), "routes": routes}, _CACHE_CONTROL)


def _per_mtok(rate_nano: int) -> Raw:
    return Raw(format_rate(rate_nano).encode())
