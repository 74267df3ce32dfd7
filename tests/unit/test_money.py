"""Amounts between text and nano-rupees: exact, and never slow."""

from __future__ import annotations

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.money import (
    MAX_RUPEES,
    NANO_PER_RUPEE,
    AmountError,
    format_inr,
    format_rate,
    parse_inr,
    rate_nano_per_token,
)
from tests.support.builders import EXAMPLES

AMOUNTS = st.integers(-MAX_RUPEES * NANO_PER_RUPEE, MAX_RUPEES * NANO_PER_RUPEE)


@EXAMPLES
@given(AMOUNTS)
def test_what_is_formatted_parses_to_the_same_amount(amount_nano: int) -> None:
    assert parse_inr(format_inr(amount_nano)) == amount_nano
    assert parse_inr(Decimal(format_inr(amount_nano))) == amount_nano


@EXAMPLES
@given(AMOUNTS)
def test_an_amount_is_formatted_as_the_exact_decimal(amount_nano: int) -> None:
    assert Decimal(format_inr(amount_nano)).scaleb(9) == amount_nano
    assert "e" not in format_inr(amount_nano).lower()


@EXAMPLES
@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**10), max_value=10**10))
def test_an_amount_is_taken_exactly_or_refused(amount: Decimal) -> None:
    exact = amount * NANO_PER_RUPEE
    if abs(amount) <= MAX_RUPEES and exact == int(exact):
        assert parse_inr(amount) == exact
        assert parse_inr(str(amount)) == exact
    else:
        with pytest.raises(AmountError):
            parse_inr(amount)


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.0061", 6_100_000),
        ("-0.000000001", -1),
        ("0.123456789", 123_456_789),
        ("1000000000", MAX_RUPEES * NANO_PER_RUPEE),
        ("-1000000000.000000000", -MAX_RUPEES * NANO_PER_RUPEE),
        ("+7", 7 * NANO_PER_RUPEE),
        (".5", 500_000_000),
        ("5.", 5 * NANO_PER_RUPEE),
        ("1e2", 100 * NANO_PER_RUPEE),
        ("1.5E-8", 15),
        ("-0", 0),
        ("0E+999999", 0),
        (12, 12 * NANO_PER_RUPEE),
    ],
)
def test_amounts_that_are_taken(text: str | int, nano: int) -> None:
    assert parse_inr(text) == nano


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "-",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "1_000",
        "1,000",
        "١٢",
        " 5",
        "5\n",
        "0x10",
        "1e",
        "1e-10",
        "0.0000000001",
        "1E+400",
        "1e999999",
        "1e-999999",
        "1e99999999999999999999",
        "1000000000.000000001",
        pytest.param("9" * 1_000_000, id="a million nines"),
        pytest.param("0.5" + "0" * 200, id="two hundred zeros"),
        True,
        Decimal("NaN"),
        Decimal("1E+999999"),
        Decimal("-Infinity"),
    ],
)
def test_amounts_that_are_refused(text: str | int | Decimal) -> None:
    with pytest.raises(AmountError) as refusal:
        parse_inr(text)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "text", ["0.50000000000000000000000000000000000001", "1000000000.00000000000000000000001"]
)
def test_digits_beyond_a_decimal_context_are_not_rounded_away(text: str) -> None:
    with decimal.localcontext(decimal.Context(prec=5)), pytest.raises(AmountError):
        parse_inr(text)


def test_an_integer_too_long_to_print_is_refused() -> None:
    with pytest.raises(AmountError):
        parse_inr(10**5000)


def test_a_float_is_no_amount() -> None:
    with pytest.raises(AmountError):
        parse_inr(12.5)  # type: ignore[arg-type]


@EXAMPLES
@given(st.integers(0, 100_000_000))
def test_a_rate_keeps_its_three_decimals(rate_nano: int) -> None:
    assert rate_nano_per_token(format_rate(rate_nano)) == rate_nano


@pytest.mark.parametrize("text", ["-1", "-0.001", "0.0001", "12.5001"])
def test_rates_that_are_refused(text: str) -> None:
    with pytest.raises(AmountError):
        rate_nano_per_token(text)


def test_the_smallest_rate_is_one_nano_a_token() -> None:
    assert rate_nano_per_token("0.001") == 1
    assert format_rate(1) == "0.001"
