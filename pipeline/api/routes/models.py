"""`GET /v1/models`: what each model costs at each provider, every price and tier, for everyone.

Called by: `api/server/app.py`. Next: `catalog/rates.py`.

`/v1/catalog` has the three usual prices of rates in force and announced; this has all of those in force, by model.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from msgspec import Raw
from pydantic import create_model

from pipeline.api.http.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.parameters import only
from pipeline.api.services.dependencies import ContextOf
from pipeline.catalog.rates import Prices, Rate, prices_by_class
from pipeline.money import format_rate
from pipeline.usage import CLASSES

router = APIRouter(tags=["public"])

_CACHE_CONTROL = "public, max-age=30"
_PRICES: dict[str, Any] = {f"{name}_inr_per_mtok": (Rupees, ...) for name in CLASSES}
PricesShown = create_model("PricesShown", __base__=Documented, **_PRICES)
"""What each class of tokens costs, in rupees per million."""


class TierShown(PricesShown):
    """The prices of a whole request whose prompt has more tokens than `above_prompt_tokens`."""

    above_prompt_tokens: Count


class ProviderPrices(PricesShown):
    """What a model costs at a provider since `effective_from`; the highest tier that a prompt exceeds counts."""

    provider: str
    effective_from: Moment
    request_inr: Rupees
    tiers: list[TierShown]


class PricedModel(Documented):
    """A model and where it can be had."""

    model: str
    providers: list[ProviderPrices]


class ModelsAnswer(Documented):
    """The models with a rate in force, by name, and their providers by name."""

    as_of: Moment
    models: list[PricedModel]


@router.get("/v1/models", response_model=ModelsAnswer, responses=failures(400))
async def models(context: ContextOf, _checked: Annotated[None, Depends(only())]) -> Response:
    """Every price in force, with tiers and the fee a request. No session."""
    now_ms = context.now_ms()
    by_model: dict[str, list[dict[str, object]]] = {}
    for rate in context.rates.current_and_announced(now_ms):
        if rate.from_ms <= now_ms:
            by_model.setdefault(rate.model, []).append(_shown(rate))
    priced = [{"model": model, "providers": providers} for model, providers in by_model.items()]
    return json_answer({"as_of": moment(now_ms), "models": priced}, _CACHE_CONTROL)


def _shown(rate: Rate) -> dict[str, object]:
    lowest_first = sorted(rate.tiers, key=lambda tier: tier.above_prompt_tokens)
    return {
        "provider": rate.provider,
        "effective_from": moment(rate.from_ms),
        **_prices(rate),
        "request_inr": rupees(rate.request_nano),
        "tiers": [
            {"above_prompt_tokens": tier.above_prompt_tokens, **_prices(tier)} for tier in lowest_first
        ],
    }


def _prices(prices: Prices) -> dict[str, object]:
    return {
        f"{name}_inr_per_mtok": Raw(format_rate(nano).encode())
        for name, nano in prices_by_class(prices).items()
    }
