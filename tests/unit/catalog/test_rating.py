"""What a request costs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import RATE_MAX_NANO, REQUEST_MAX_NANO, Rate, Tier
from pipeline.catalog.rating import cost_lines, cost_nano, is_free, why_free
from pipeline.events import decode_record
from pipeline.usage import (
    CLASSES,
    MAX_TOKENS,
    NOTHING,
    OTHER_CLASSES,
    CompletionDetails,
    Counts,
    PromptDetails,
    Usage,
    counts_of,
)
from tests.support.builders import COST_NANO, EXAMPLES, MANY_EXAMPLES, event, packed, rate

TOKENS = st.integers(0, MAX_TOKENS)
RATES = st.integers(0, RATE_MAX_NANO)


@EXAMPLES
@given(TOKENS, TOKENS, TOKENS, RATES, RATES, RATES)
def test_a_cost_is_exact_and_fits_int64(
    uncached: int, cached: int, completion: int, input_nano: int, cached_nano: int, output_nano: int
) -> None:
    prompt = min(uncached + cached, MAX_TOKENS)
    cached = min(cached, prompt)
    each = rate(input_nano=input_nano, cached_nano=cached_nano, output_nano=output_nano)
    inr_per_mtok = [Fraction(nano, 1000) for nano in (input_nano, cached_nano, output_nano)]
    tokens = (prompt - cached, cached, completion)
    rupees = sum(r * n / 1_000_000 for r, n in zip(inr_per_mtok, tokens, strict=True))
    cost = cost_nano(each, prompt, cached, completion)
    assert cost == rupees * 1_000_000_000
    assert 0 <= cost < 2**63


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Any rate, now and then with prices of the other classes, a fee and tiers."""

    def prices() -> tuple[int, int, int, tuple[int, ...]]:
        others = draw(st.just(()) | st.tuples(*(RATES for _ in OTHER_CLASSES)))
        return draw(RATES), draw(RATES), draw(RATES), others

    bounds = sorted(draw(st.sets(st.integers(1, 200), max_size=2)), reverse=True)
    tiers = tuple(Tier(above, *prices()) for above in bounds)
    return Rate("m", "p", 0, *prices(), draw(st.integers(0, REQUEST_MAX_NANO)), tiers)


@st.composite
def any_counts(draw: st.DrawFn) -> Counts:
    """What is charged of any usage object, regular or not."""
    count = st.integers(0, 250)
    of_prompt = PromptDetails(draw(count), draw(st.just(0) | count), draw(st.just(0) | count))
    of_completion = CompletionDetails(draw(count), draw(st.just(0) | count))
    prompt, completion = draw(count), draw(count)
    beside = draw(st.sampled_from([0, of_completion.reasoning_tokens, of_prompt.cached_tokens, 7]))
    found = Usage(prompt, completion, prompt + completion + (beside or 0), of_prompt, of_completion)
    return counts_of(found, failed=False)


@MANY_EXAMPLES
@given(rates(), any_counts())
def test_the_lines_add_up_to_the_cost_exactly(each: Rate, counts: Counts) -> None:
    lines = cost_lines(each, counts)
    assert sum(line.amount_nano for line in lines) == cost_nano(each, *counts)
    assert all(line.amount_nano == line.quantity * line.rate_nano for line in lines)
    assert all(line.quantity for line in lines)
    names = [line.name for line in lines]
    assert names == [name for name in (*CLASSES, "request") if name in names]


@EXAMPLES
@given(TOKENS, TOKENS, RATES, RATES)
def test_the_dearest_cost_fits_int64(prompt: int, completion: int, input_nano: int, output_nano: int) -> None:
    each = rate(input_nano=input_nano, output_nano=output_nano, request_nano=REQUEST_MAX_NANO)
    beside = Usage(
        prompt, completion, prompt + completion + 2 * MAX_TOKENS, PromptDetails(MAX_TOKENS, MAX_TOKENS)
    )
    assert 0 <= cost_nano(each, *counts_of(beside, failed=False)) < 2**63


def test_each_class_has_its_price_and_a_tier_rates_the_whole_request() -> None:
    each = rate(others_nano=(15, 100, 200), request_nano=7, tiers=(Tier(1000, 25, 6, 75, (30, 110, 220)),))
    details = PromptDetails(300, 200, 100), CompletionDetails(50, 80)
    below = cost_lines(each, counts_of(Usage(1000, 500, 1500, *details), failed=False))
    assert [(line.name, line.quantity, line.rate_nano) for line in below] == [
        ("input", 400, 12_500),
        ("cached_input", 300, 3_125),
        ("cache_write", 200, 15),
        ("audio_input", 100, 100),
        ("output", 420, 50_000),
        ("audio_output", 80, 200),
        ("request", 1, 7),
    ]
    above = cost_lines(each, counts_of(Usage(1001, 500, 1501, *details), failed=False))
    assert [(line.quantity, line.rate_nano) for line in above] == [
        (401, 25),
        (300, 6),
        (200, 30),
        (100, 110),
        (420, 75),
        (80, 220),
        (1, 7),
    ]


def test_a_request_of_no_tokens_costs_its_fee() -> None:
    assert cost_nano(rate(request_nano=50_000_000), 0, 0, 0) == 50_000_000
    assert cost_lines(rate(), NOTHING) == []


def test_the_example_costs_what_it_should() -> None:
    assert cost_nano(rate(), 200, 64, 112) == COST_NANO == 7_500_000


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"data__status": 399}, False),
        ({"data__status": 400}, True),
        ({"data__byok": True}, True),
        ({"data__tier": "trial"}, True),
    ],
)
def test_which_requests_are_free(changes: dict[str, Any], free: bool) -> None:
    [found] = decode_record(packed(event(**changes))) or []
    data = found.data
    assert is_free(data) is free
    assert (why_free(data) is not None) is free


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data__tier": "trial", "data__byok": True, "data__status": 500}, "failed"),
        ({"data__tier": "trial", "data__byok": True}, "byok"),
        ({"data__tier": "trial"}, "trial"),
        ({}, None),
    ],
)
def test_why_a_request_is_free(changes: dict[str, Any], why: str | None) -> None:
    [found] = decode_record(packed(event(**changes))) or []
    assert why_free(found.data) == why
