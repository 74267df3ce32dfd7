"""The catalog as people read it: each model with its providers and every price that is in force or announced. Pure.

Owns: which prices are told apart, and in which order providers stand.
Called by: `api/routes/public.py`. Next: `api/templates/public_parts.html`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline import ist
from pipeline.catalog.rates import Prices, Rate, prices_by_class
from pipeline.money import format_inr, format_rate
from pipeline.rupee_text import grouped, grouped_count
from pipeline.usage import OTHER_CLASSES

NEW_DAYS = 90
_MTOK = 1_000_000
_WORDS = {
    "cache_write": "cache write",
    "audio_input": "audio in",
    "audio_output": "audio out",
    "request": "each request",
}


class ShownPrice(NamedTuple):
    """A price: the name of the API's field, its exact value, and how people read it."""

    field: str
    value: str
    shown: str


class PriceLine(NamedTuple):
    """Prices that hold together. `others` are those of further classes that differ, with a word for each."""

    input: ShownPrice
    cached_input: ShownPrice
    output: ShownPrice
    others: tuple[tuple[str, ShownPrice], ...]


class ListedRoute(NamedTuple):
    """A model at a provider: its prices, those of longer prompts, and those announced.

    `since` is the day from which the prices hold where it is one of the last `NEW_DAYS`, else empty.
    """

    model: str
    provider: str
    since: str
    prices: PriceLine
    tiers: tuple[tuple[str, PriceLine], ...]
    """From the smallest bound on: more prompt tokens than this, then the prices of the whole request."""
    announced: tuple[tuple[str, PriceLine], ...]
    """From an instant on, oldest first. Tiers of theirs are shown once they are in force."""


def price_list(rates: Iterable[Rate], now_ms: int) -> list[ListedRoute]:
    """Return the routes with a rate in force: by model, the cheapest input first.

    `rates` are those in force and announced, as `RateTable.current_and_announced` has them.
    """
    by_route: dict[tuple[str, str], list[Rate]] = {}
    for rate in rates:
        by_route.setdefault(rate.route, []).append(rate)
    in_force = [known for known in by_route.values() if known[0].from_ms <= now_ms]
    in_force.sort(key=lambda known: (known[0].model, known[0].input_nano, known[0].output_nano))
    return [_listed(now_ms, *known) for known in in_force]


def _listed(now_ms: int, rate: Rate, *later: Rate) -> ListedRoute:
    lowest_first = sorted(rate.tiers, key=lambda tier: tier.above_prompt_tokens)
    return ListedRoute(
        rate.model,
        rate.provider,
        day_shown(rate.from_ms) if now_ms - rate.from_ms < NEW_DAYS * ist.DAY_MS else "",
        _line(rate, rate.request_nano),
        tuple((grouped_count(tier.above_prompt_tokens), _line(tier)) for tier in lowest_first),
        tuple((instant_shown(each.from_ms), _line(each, each.request_nano)) for each in later),
    )


def _line(prices: Prices, request_nano: int = 0) -> PriceLine:
    nano = prices_by_class(prices)
    whole = {"prompt": nano["input"], "completion": nano["output"]}
    others = [
        (_WORDS.get(each.name, each.name), _price(each.name, nano[each.name]))
        for each in OTHER_CLASSES
        if nano[each.name] != whole[each.whole]
    ]
    if request_nano:
        fee = ShownPrice("request_inr", format_inr(request_nano), grouped(request_nano))
        others.append((_WORDS["request"], fee))
    return PriceLine(
        _price("input", nano["input"]),
        _price("cached_input", nano["cached_input"]),
        _price("output", nano["output"]),
        tuple(others),
    )


def _price(name: str, rate_nano: int) -> ShownPrice:
    shown = grouped(rate_nano * _MTOK) if rate_nano else "free"
    return ShownPrice(f"{name}_inr_per_mtok", format_rate(rate_nano), shown)


def day_shown(at_ms: int) -> str:
    """Return the IST day of an instant as 5 Jan 2026."""
    at = ist.datetime_of(at_ms)
    return f"{at.day} {at:%b %Y}"


def instant_shown(at_ms: int) -> str:
    """Return an instant as 5 Jan 2026, 14:30 IST."""
    return f"{day_shown(at_ms)}, {ist.datetime_of(at_ms):%H:%M} IST"
