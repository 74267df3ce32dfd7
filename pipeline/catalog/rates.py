"""Which rate of a route was in force at an instant.

Owns: the rate and the table of all of them.
Called by: `catalog/rating.py` for each paid request, the API (`/v1/catalog`, rankings), `catalog/apply.py`.

Rates never change once they are in force, so any reader that has reached a record's offset agrees with
every other about all instants before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct, structs

from pipeline.money import NANO_PER_RUPEE
from pipeline.usage import MAX_TOKENS, OTHER_CLASSES

RATE_MAX_NANO = 100_000_000
"""100,000 rupees per million tokens, twice the dearest model: the largest cost stays far within Int64."""

REQUEST_MAX_NANO = 100_000 * NANO_PER_RUPEE
"""100,000 rupees a request."""

RateNano = Annotated[int, Meta(ge=0, le=RATE_MAX_NANO)]
OthersNano = tuple[RateNano, ...]
Route = tuple[str, str]
"""(model, provider)."""
UNLISTED = "(unlisted)"
"""The name under which failed requests are kept that name a model, or a provider, of which the catalog has no rate. Anybody
can make up such names without end, and sums are kept of each name."""


class Prices(Protocol):
    """What each class of tokens costs, in nano-rupees a token; `others_nano` in the order of `OTHER_CLASSES`."""

    @property
    def input_nano(self) -> int:
        """A prompt token that is of no other class."""

    @property
    def cached_nano(self) -> int:
        """A prompt token read from a cache."""

    @property
    def output_nano(self) -> int:
        """A completion token that is of no other class."""

    @property
    def others_nano(self) -> tuple[int, ...]:
        """A token of each other class."""


def prices_by_class(prices: Prices) -> dict[str, int]:
    """Return the nano-rupees a token of each class, by the class's name."""
    return {
        "input": prices.input_nano,
        "cached_input": prices.cached_nano,
        "output": prices.output_nano,
        **{each.name: nano for each, nano in zip(OTHER_CLASSES, prices.others_nano, strict=True)},
    }


def price_fields(by_class: Mapping[str, int]) -> dict[str, Any]:
    """Return the price fields of a rate or tier; a class without a price costs what its whole does."""
    whole = {"prompt": by_class["input"], "completion": by_class["output"]}
    return {
        "input_nano": by_class["input"],
        "cached_nano": by_class.get("cached_input", by_class["input"]),
        "output_nano": by_class["output"],
        "others_nano": tuple(by_class.get(each.name, whole[each.whole]) for each in OTHER_CLASSES),
    }


def _complete(prices: Tier | Rate) -> None:
    if not prices.others_nano:
        by_class = {"input": prices.input_nano, "output": prices.output_nano}
        structs.force_setattr(prices, "others_nano", price_fields(by_class)["others_nano"])
    elif len(prices.others_nano) != len(OTHER_CLASSES):
        raise ValueError(f"{len(prices.others_nano)} prices for {len(OTHER_CLASSES)} classes of tokens")


class Tier(Struct, frozen=True, gc=False):
    """The prices of requests of more than `above_prompt_tokens` prompt tokens, in nano-rupees a token."""

    above_prompt_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    input_nano: RateNano
    cached_nano: RateNano
    output_nano: RateNano
    others_nano: OthersNano = ()

    def __post_init__(self) -> None:
        """Complete the prices of the other classes. Raises ValueError for too many of them."""
        _complete(self)


class Rate(Struct, frozen=True, gc=False):
    """One route's prices from `from_ms` on: nano-rupees a token, and `request_nano` for each charged request.

    `tiers` are the prices of larger prompts, the largest first.
    """

    model: str
    provider: str
    from_ms: int
    input_nano: RateNano
    cached_nano: RateNano
    output_nano: RateNano
    others_nano: OthersNano = ()
    request_nano: Annotated[int, Meta(ge=0, le=REQUEST_MAX_NANO)] = 0
    tiers: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        """Complete the prices of the other classes. Raises ValueError for too many of them."""
        _complete(self)

    @property
    def route(self) -> Route:
        """The (model, provider) this rate is for."""
        return (self.model, self.provider)

    def tier_of(self, prompt_tokens: int) -> Tier | None:
        """Return the highest tier whose bound the prompt exceeds, or None where it exceeds none."""
        for tier in self.tiers:
            if prompt_tokens > tier.above_prompt_tokens:
                return tier
        return None


class RateTable:
    """All rates known, by route, newest first."""

    def __init__(self) -> None:
        """Start with no rate."""
        self._by_route: dict[Route, tuple[Rate, ...]] = {}
        self._models, self._providers = Counter[str](), Counter[str]()

    def add(self, rate: Rate) -> None:
        """Take in a rate; one with the same route and start replaces the earlier one."""
        if rate.route not in self._by_route:
            self._models[rate.model] += 1
            self._providers[rate.provider] += 1
        others = [r for r in self._by_route.get(rate.route, ()) if r.from_ms != rate.from_ms]
        self._by_route[rate.route] = tuple(sorted([*others, rate], key=lambda r: -r.from_ms))

    def remove(self, route: Route, from_ms: int) -> None:
        """Take a rate out, if it is there: it was withdrawn before it was ever in force."""
        left = tuple(rate for rate in self._by_route.get(route, ()) if rate.from_ms != from_ms)
        if left:
            self._by_route[route] = left
        elif self._by_route.pop(route, None) is not None:
            self._models[route[0]] -= 1
            self._providers[route[1]] -= 1

    def in_force(self, model: str, provider: str, at_ms: int) -> Rate | None:
        """Return the route's rate in force at an instant, or None where there is none."""
        for rate in self._by_route.get((model, provider), ()):
            if rate.from_ms <= at_ms:
                return rate
        return None

    def starting(self, route: Route, from_ms: int) -> Rate | None:
        """Return the route's rate that starts at an instant, or None where there is none."""
        return next((rate for rate in self._by_route.get(route, ()) if rate.from_ms == from_ms), None)

    def of_route(self, route: Route) -> tuple[Rate, ...]:
        """Return all rates of a route, newest first."""
        return self._by_route.get(route, ())

    def listed(self, model: str, provider: str) -> Route:
        """Return both names as they are, but UNLISTED for one of which no rate is known, of whatever start.

        No provider, an empty name, stays none.
        """
        return (
            model if self._models[model] else UNLISTED,
            provider if not provider or self._providers[provider] else UNLISTED,
        )

    def models_in_force(self, at_ms: int) -> set[str]:
        """Return the models that have a rate in force at an instant: the catalog's models."""
        return {rate.model for rate in self if rate.from_ms <= at_ms}

    def current_and_announced(self, at_ms: int) -> list[Rate]:
        """Return, for each route, the rate in force at an instant and all later ones, in route order."""
        shown = []
        for route in sorted(self._by_route):
            rates = self._by_route[route]
            in_force = self.in_force(*route, at_ms)
            shown += [r for r in reversed(rates) if r.from_ms > at_ms or r is in_force]
        return shown

    def __iter__(self) -> Iterator[Rate]:
        """Iterate over all rates."""
        for rates in self._by_route.values():
            yield from rates
