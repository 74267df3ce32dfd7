"""Amounts as people read them, against figures worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.money import AmountError, parse_inr
from pipeline.rupee_text import grouped, grouped_paise, in_words

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("amount_nano", "text"),
    [
        (0, "₹0.00"),
        (6_100_000, "₹0.0061"),
        (1, "₹0.000000001"),
        (99_999_999_999_999, "₹99,999.999999999"),
        (100_000_000_000_000, "₹1,00,000.00"),
        (123_456_780_000_000, "₹1,23,456.78"),
        (12_345_678_900_000_000, "₹1,23,45,678.90"),
        (-1_000_500_000_000, "-₹1,000.50"),
        (2**63 - 1, "₹9,22,33,72,036.854775807"),
    ],
)
def test_grouping_is_indian_and_exact(amount_nano: int, text: str) -> None:
    assert grouped(amount_nano) == text


@given(INT64)
def test_a_grouped_amount_reads_back_as_itself(amount_nano: int) -> None:
    sign = "-" if amount_nano < 0 else ""
    rupees, _, fraction = grouped(abs(amount_nano), symbol="").replace(",", "").partition(".")
    assert int(f"{sign}{rupees}{fraction.ljust(9, '0')}") == amount_nano


@given(INT64)
def test_in_paise_it_is_never_shown_higher(amount_nano: int) -> None:
    shown = (
        parse_inr(grouped_paise(amount_nano, symbol="").replace(",", ""))
        if abs(amount_nano) < 10**18
        else None
    )
    assert shown is None or 0 <= amount_nano - shown < 10_000_000


@pytest.mark.parametrize(
    ("paise", "words"),
    [
        (100_00, "Rupees one hundred only"),
        (1_000_00, "Rupees one thousand only"),
        (1_00_000_00, "Rupees one lakh only"),
        (
            1_23_456_78,
            "Rupees one lakh twenty-three thousand four hundred and fifty-six and paise seventy-eight only",
        ),
        (1_00_00_000_00, "Rupees one crore only"),
        (50, "Rupees zero and paise fifty only"),
    ],
)
def test_words_are_indian(paise: int, words: str) -> None:
    assert in_words(paise * 10_000_000) == words


@pytest.mark.parametrize("amount_nano", [-10_000_000, 1, 10_000_001])
def test_what_cannot_be_paid_has_no_words(amount_nano: int) -> None:
    with pytest.raises(AmountError):
        in_words(amount_nano)
