"""What a request costs: tokens times the prices of the route that served it.

Owns: the formula, and which requests are free.
Called by: `posting/requests.py`, `gateway/sending/prepare.py`, `operations/audit.py`. Next: `accounts/ledger.py`
takes the cost off the balance.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from pipeline.catalog.rates import Prices, Rate, prices_by_class
from pipeline.events import FAILED_FROM
from pipeline.usage import (
    CACHE_BESIDE,
    NO_OTHERS,
    OTHER_CLASSES,
    REASONING_BESIDE,
    REGULAR,
    WRITTEN,
    Counts,
    Others,
    quantities_of,
)

Free = Literal["trial", "byok", "failed"]
REQUEST = "request"
"""The cost line of the fee for a request."""


class Request(Protocol):
    """What decides whether a request is free: of an event's data and of a row of the journal alike."""

    @property
    def byok(self) -> bool:
        """Whether it was served with the org's own key at the provider."""

    @property
    def status(self) -> int:
        """Its HTTP status."""

    @property
    def tier(self) -> str:
        """`standard` or `trial`."""


def is_free(request: Request) -> bool:
    """Whether a request costs nothing: a trial key, the org's own provider key, or a failed request."""
    return request.byok or request.status >= FAILED_FROM or request.tier == "trial"


def why_free(request: Request) -> Free | None:
    """Return why a request costs nothing, or None where it costs what its tokens do."""
    if request.status >= FAILED_FROM:
        return "failed"
    if request.byok:
        return "byok"
    return "trial" if request.tier == "trial" else None


def cost_nano(
    rate: Rate,
    prompt: int,
    cached: int,
    completion: int,
    reasoning: int = 0,
    others: Others = NO_OTHERS,
    irregular: int = REGULAR,
) -> int:
    """Return what a served request costs, in nano-rupees, exactly; the counts are those of `usage.Counts`.

    Cached tokens are part of the prompt's and have a price of their own; reasoning tokens are part of the
    completion's, so they appear here only where the mark says that they were counted beside it.
    """
    prices: Prices = (rate.tier_of(prompt) or rate) if rate.tiers else rate
    cost = (
        (prompt - cached) * prices.input_nano
        + cached * prices.cached_nano
        + completion * prices.output_nano
        + rate.request_nano
    )
    if others is not NO_OTHERS:
        for each, count, nano in zip(OTHER_CLASSES, others, prices.others_nano, strict=True):
            cost += count * (nano - (prices.input_nano if each.whole == "prompt" else prices.output_nano))
    if irregular == REASONING_BESIDE:
        cost += reasoning * prices.output_nano
    elif irregular == CACHE_BESIDE:
        cost += (cached + others[WRITTEN]) * prices.input_nano
    return cost


class CostLine(Struct, frozen=True):
    """A part of a cost: `quantity` tokens of a class at `rate_nano` each, or the fee for one request."""

    name: str
    quantity: int
    rate_nano: int
    amount_nano: int


def cost_lines(rate: Rate, counts: Counts) -> list[CostLine]:
    """Return what a charged request costs, line by line: each class it has tokens of, and the fee if there is one.

    The amounts add up to `cost_nano`.
    """
    prices = prices_by_class(rate.tier_of(counts[0]) or rate)
    lines = [
        CostLine(name, quantity, prices[name], quantity * prices[name])
        for name, quantity in quantities_of(counts).items()
        if quantity
    ]
    if rate.request_nano:
        lines.append(CostLine(REQUEST, 1, rate.request_nano, rate.request_nano))
    return lines
