"""What requests would have cost by other prices or another route, exactly. Pure: sums and rates in, sums out.

Owns: which requests may be added up before they are priced, and the price a what-if takes.
Called by: `api/routes/whatif.py`, `cli/whatif.py`. Next: `catalog/rating.py` has the formula.

A cost is a sum of counts times prices, so requests that have the same prices can be added up first: those of one
route, with the same irregular counts, between two starts of rates, and between two bounds of tiers. Within such a group
every count enters the cost by the same factor, and the sum is exact.

A comparison is fair where the tokens would have been the same, and a price was known for all of the time: that is the same
model at another provider. Another model counts tokens in another way, and answers at another length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from msgspec import Struct

from pipeline import ist
from pipeline.catalog.rates import Rate, RateTable, Route
from pipeline.catalog.rating import cost_nano

DAYS_AT_ONCE = 31
"""So many days are asked for in one query, so that none takes longer than the engine lets one."""


class PriceGroup(Struct, frozen=True, array_like=True):
    """Charged requests that any of the rates looked at prices alike: how many, their counts added up, what they cost.

    `at_ms` and `prompt_least` are the first instant and the smallest prompt among them, which stand for all of them.
    """

    model: str
    provider: str
    irregular: int
    at_ms: int
    prompt_least: int
    requests: int
    prompt: int
    cached: int
    completion: int
    reasoning: int
    others: tuple[int, ...]
    cost_nano: int

    @property
    def route(self) -> Route:
        """The route that served them."""
        return self.model, self.provider


class Repriced(Struct, frozen=True):
    """What requests of a model cost, and would have cost as another route. Nano-rupees."""

    model: str
    as_model: str
    as_provider: str
    requests: int
    actual_nano: int
    whatif_nano: int


class LeftOut(Struct, frozen=True):
    """Requests of a route that cannot be priced: no rate is known for it."""

    model: str
    provider: str
    requests: int
    actual_nano: int


class WhatIf(Struct, frozen=True):
    """Every model by the route it is priced as, the dearest first, and what is left out of both sums."""

    models: list[Repriced]
    left_out: list[LeftOut]

    @property
    def actual_nano(self) -> int:
        """What the requests that could be priced did cost."""
        return sum(each.actual_nano for each in self.models)

    @property
    def whatif_nano(self) -> int:
        """What they would have cost."""
        return sum(each.whatif_nano for each in self.models)


def boundaries(rates: Iterable[Rate], from_ms: int, to_ms: int) -> dict[str, list[int]]:
    """Return where prices change, as parameters of the queries `whatif_org` and `whatif_platform`.

    `starts` are instants within a range of time, `bounds` numbers of prompt tokens.
    """
    known = list(rates)
    return {
        "starts": sorted({rate.from_ms for rate in known if from_ms < rate.from_ms <= to_ms}),
        "bounds": sorted({tier.above_prompt_tokens for rate in known for tier in rate.tiers}),
    }


def parameters_of_days(rates: Iterable[Rate], first: date, last: date) -> dict[str, object]:
    """Return the parameters of these queries for IST days, both included."""
    from_ms, to_ms = ist.day_start_ms(ist.day_of_date(first)), ist.day_end_ms(ist.day_of_date(last))
    return {
        "from_day": first.isoformat(),
        "to_day": last.isoformat(),
        **boundaries(rates, from_ms, to_ms),
    }


def pieces(first: date, last: date) -> Generator[tuple[date, date]]:
    """Yield the days from one to another, both included, as ranges of DAYS_AT_ONCE at most."""
    while first <= last:
        end = min(last, first + timedelta(days=DAYS_AT_ONCE - 1))
        yield first, end
        first = end + timedelta(days=1)


def rate_for(rates: RateTable, route: Route, at_ms: int) -> Rate | None:
    """Return the route's rate in force at an instant, or its first one where that starts later, or None."""
    of_route = rates.of_route(route)
    return rates.in_force(*route, at_ms) or (of_route[-1] if of_route else None)


def repriced(groups: Iterable[PriceGroup], rates: RateTable, routes: Mapping[str, Route]) -> WhatIf:
    """Return what requests would have cost by a catalog, those of the models in `routes` as other routes.

    `routes` has the (model, provider) to price a model as; an empty provider is the one that served.
    """
    models: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    left_out: dict[Route, tuple[int, int]] = {}
    for group in groups:
        as_model, as_provider = routes.get(group.model, group.route)
        route = as_model, as_provider or group.provider
        rate = rate_for(rates, route, group.at_ms)
        if rate is None:
            requests, actual = left_out.get(group.route, (0, 0))
            left_out[group.route] = requests + group.requests, actual + group.cost_nano
            continue
        name = group.model, *route
        requests, actual, whatif = models.get(name, (0, 0, 0))
        models[name] = (
            requests + group.requests,
            actual + group.cost_nano,
            whatif + _cost_nano(rate, group),
        )
    found = [Repriced(*name, *sums) for name, sums in models.items()]
    found.sort(key=lambda each: (-each.actual_nano, each.model, each.as_model, each.as_provider))
    return WhatIf(found, [LeftOut(*route, *sums) for route, sums in sorted(left_out.items())])


def at_other_providers(groups: Iterable[PriceGroup], rates: RateTable, from_ms: int) -> WhatIf:
    """Return what each model's requests would have cost at the cheapest other provider of the same model.

    Only a provider that has had a price since `from_ms`, before all of the requests, and did not serve all of them itself. A
    model without one is left out.
    """
    providers: dict[str, set[str]] = defaultdict(set)
    for rate in rates:
        if rate.from_ms <= from_ms:
            providers[rate.model].add(rate.provider)
    by_model: dict[str, list[PriceGroup]] = defaultdict(list)
    for group in groups:
        by_model[group.model].append(group)
    found: list[WhatIf] = []
    for model, some in by_model.items():
        served = {group.provider for group in some}
        others = providers[model] - (served if len(served) == 1 else set())
        compared = [repriced(some, rates, {model: (model, provider)}) for provider in sorted(others)]
        found.append(min(compared, key=lambda each: each.whatif_nano, default=_none_of(some)))
    models = [each for one in found for each in one.models]
    models.sort(key=lambda each: (-each.actual_nano, each.model))
    left_out = [each for one in found for each in one.left_out]
    return WhatIf(models, sorted(left_out, key=lambda each: (-each.actual_nano, each.model, each.provider)))


def _none_of(groups: Iterable[PriceGroup]) -> WhatIf:
    """Return all requests as left out."""
    return repriced(groups, RateTable(), {})


def _cost_nano(rate: Rate, group: PriceGroup) -> int:
    """Price a group's sums by the tier that its requests have in common, and the fee for each request."""
    prices: Any = rate.tier_of(group.prompt_least) or rate
    alike = Rate(
        rate.model,
        rate.provider,
        rate.from_ms,
        prices.input_nano,
        prices.cached_nano,
        prices.output_nano,
        prices.others_nano,
    )
    counts = group.prompt, group.cached, group.completion, group.reasoning
    of_tokens = cost_nano(alike, *counts, group.others, group.irregular)
    return of_tokens + group.requests * rate.request_nano
