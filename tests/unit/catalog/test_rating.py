"""What a request costs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import RATE_MAX_NANO
from pipeline.catalog.rating import cost_nano, is_free
from pipeline.events import MAX_TOKENS, decode_record
from tests.support.builders import COST_NANO, EXAMPLES, event, packed, rate

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
    assert is_free(found.data) is free
