"""What-if: sums of requests are priced to what the requests would have cost one by one."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import Rate, RateTable, Tier
from pipeline.catalog.rating import cost_nano
from pipeline.usage import CACHE_BESIDE, REASONING_BESIDE, REGULAR
from pipeline.whatif import LeftOut, PriceGroup, Repriced, boundaries, rate_for, repriced

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
