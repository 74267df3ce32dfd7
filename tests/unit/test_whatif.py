"""What-if: sums of requests are priced to what the requests would have cost one by one."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.catalog.rating import cost_nano
from pipeline.usage import CACHE_BESIDE, REASONING_BESIDE, REGULAR
from pipeline.whatif import (
    DAYS_AT_ONCE,
    LeftOut,
    PriceGroup,
    Repriced,
    at_other_providers,
    boundaries,
    pieces,
    rate_for,
    repriced,
)

START_MS, END_MS = 1_000, 9_000
MODELS, PROVIDERS = ("m", "n"), ("p", "q")
PRICES = st.integers(0, 10_000)


class Asked(NamedTuple):
    """One charged request: where it went, when, and its counts."""

    model: str
    provider: str
    irregular: int
    at_ms: int
    prompt: int
    cached: int
    completion: int
    reasoning: int
    others: tuple[int, int, int]


def tiers() -> st.SearchStrategy[tuple[Tier, ...]]:
    found = st.dictionaries(st.integers(1, 900), st.tuples(PRICES, PRICES, PRICES), max_size=2)
    return found.map(lambda by: tuple(Tier(above, *by[above]) for above in sorted(by, reverse=True)))


@st.composite
def tables(draw: st.DrawFn) -> RateTable:
    table = RateTable()
    for model in MODELS:
        for provider in PROVIDERS:
            for from_ms in draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=3)):
                prices = draw(st.tuples(PRICES, PRICES, PRICES, st.tuples(PRICES, PRICES, PRICES), PRICES))
                table.add(Rate(model, provider, from_ms, *prices, tiers=draw(tiers())))
    return table


REQUESTS = st.lists(
    st.builds(
        lambda cached, more, completion, others, **rest: Asked(
            prompt=cached + others[0] + others[1] + more,
            cached=cached,
            completion=completion + others[2],
            others=others,
            **rest,
        ),
        cached=st.integers(0, 300),
        more=st.integers(0, 900),
        completion=st.integers(0, 900),
        others=st.tuples(*[st.integers(0, 50)] * 3),
        model=st.sampled_from(MODELS),
        provider=st.sampled_from(PROVIDERS),
        irregular=st.sampled_from([REGULAR, REASONING_BESIDE, CACHE_BESIDE]),
        at_ms=st.integers(START_MS, END_MS),
        reasoning=st.integers(0, 300),
    ),
    max_size=40,
)


def price_nano(rates: RateTable, request: Asked, route: tuple[str, str]) -> int:
    """Price one request by itself."""
    rate = rate_for(rates, route, request.at_ms)
    assert rate is not None
    counts = request.prompt, request.cached, request.completion, request.reasoning
    return cost_nano(rate, *counts, request.others, request.irregular)


def grouped(requests: list[Asked], paid: RateTable, asked: RateTable) -> list[PriceGroup]:
    """Add requests up as the queries do."""
    found = boundaries(asked, START_MS, END_MS)
    by: dict[tuple[object, ...], list[Asked]] = defaultdict(list)
    for each in requests:
        slot = sum(start <= each.at_ms for start in found["starts"])
        band = sum(each.prompt > bound for bound in found["bounds"])
        by[each.model, each.provider, each.irregular, slot, band].append(each)
    return [
        PriceGroup(
            some[0].model,
            some[0].provider,
            some[0].irregular,
            min(each.at_ms for each in some),
            min(each.prompt for each in some),
            len(some),
            sum(each.prompt for each in some),
            sum(each.cached for each in some),
            sum(each.completion for each in some),
            sum(each.reasoning for each in some),
            tuple(map(sum, zip(*(each.others for each in some), strict=True))),
            sum(price_nano(paid, each, (each.model, each.provider)) for each in some),
        )
        for some in by.values()
    ]


@given(REQUESTS, tables(), tables())
def test_sums_are_priced_to_what_each_request_costs(
    requests: list[Asked], paid: RateTable, asked: RateTable
) -> None:
    found = repriced(grouped(requests, paid, asked), asked, {"m": ("n", "")})
    wanted = {"m": "n"}
    assert found.whatif_nano == sum(
        price_nano(asked, each, (wanted.get(each.model, each.model), each.provider)) for each in requests
    )
    assert found.actual_nano == sum(price_nano(paid, each, (each.model, each.provider)) for each in requests)
    assert sum(each.requests for each in found.models) == len(requests)


@given(REQUESTS, tables())
def test_the_present_catalog_costs_what_was_debited(requests: list[Asked], rates: RateTable) -> None:
    found = repriced(grouped(requests, rates, rates), rates, {})
    assert [each.whatif_nano for each in found.models] == [each.actual_nano for each in found.models]


def test_what_has_no_rate_is_left_out_of_both_sums() -> None:
    rates = RateTable()
    rates.add(Rate("m", "p", 5_000, 7, 7, 11, request_nano=1_000))
    groups = [
        PriceGroup("m", "p", REGULAR, 2_000, 10, 2, 30, 0, 4, 0, (0, 0, 0), 99),
        PriceGroup("m", "q", REGULAR, 2_000, 10, 5, 30, 0, 4, 0, (0, 0, 0), 50),
        PriceGroup("m", "q", REGULAR, 6_000, 10, 1, 30, 0, 4, 0, (0, 0, 0), 1),
    ]
    found = repriced(groups, rates, {})
    # The only rate starts later than the requests: the first rate of a route stands for the time before it too.
    assert found.models == [Repriced("m", "m", "p", 2, 99, 30 * 7 + 4 * 11 + 2 * 1_000)]
    assert found.left_out == [LeftOut("m", "q", 6, 51)]
    named = repriced(groups, rates, {"m": ("m", "p")})
    assert (named.actual_nano, named.left_out) == (150, [])


@given(REQUESTS, tables())
def test_the_cheapest_other_provider_of_the_same_model_is_compared(
    requests: list[Asked], rates: RateTable
) -> None:
    found = at_other_providers(grouped(requests, rates, rates), rates, START_MS)
    compared = {each.model: each for each in found.models}
    for model in {each.model for each in requests}:
        some = [each for each in requests if each.model == model]
        served = {each.provider for each in some}
        fair = {p for p in PROVIDERS if any(r.from_ms <= START_MS for r in rates.of_route((model, p)))}
        fair -= served if len(served) == 1 else set()
        actual_nano = sum(price_nano(rates, each, (model, each.provider)) for each in some)
        if not fair:
            left = [each for each in found.left_out if each.model == model]
            assert (sum(each.requests for each in left), sum(each.actual_nano for each in left)) == (
                len(some),
                actual_nano,
            )
            continue
        costs = {p: sum(price_nano(rates, each, (model, p)) for each in some) for p in fair}
        told = compared.pop(model)
        assert (told.as_model, told.requests, told.actual_nano) == (model, len(some), actual_nano)
        assert told.as_provider in fair
        assert told.whatif_nano == costs[told.as_provider] == min(costs.values())
    assert compared == {}


def test_a_provider_that_had_no_price_at_the_beginning_is_no_fair_comparison() -> None:
    rates = RateTable()
    for provider, from_ms, nano in (("p", 0, 10), ("q", 0, 7), ("late", 5_001, 1)):
        rates.add(Rate("m", provider, from_ms, nano, nano, nano))
    rates.add(Rate("n", "p", 0, 10, 10, 10))
    groups = [
        PriceGroup("m", "p", REGULAR, 6_000, 10, 2, 30, 0, 4, 0, (0, 0, 0), 340),
        PriceGroup("n", "p", REGULAR, 6_000, 10, 1, 3, 0, 4, 0, (0, 0, 0), 70),
    ]
    found = at_other_providers(groups, rates, 5_000)
    assert found.models == [Repriced("m", "m", "q", 2, 340, 34 * 7)]
    assert found.left_out == [LeftOut("n", "p", 1, 70)]


def test_days_are_asked_for_some_at_a_time_and_each_once() -> None:
    first = date(2025, 12, 20)
    for days in (1, DAYS_AT_ONCE, DAYS_AT_ONCE + 1, 366):
        last = first + timedelta(days=days - 1)
        found = list(pieces(first, last))
        assert (found[0][0], found[-1][1]) == (first, last)
        assert all(after[0] - before[1] == timedelta(days=1) for before, after in pairwise(found))
        assert all(0 <= (end - start).days < DAYS_AT_ONCE for start, end in found)
