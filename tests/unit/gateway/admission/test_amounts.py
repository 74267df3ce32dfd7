"""What a request may cost: the fast reading says what the exact one says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.gateway.admission import amounts
from pipeline.money import AmountError, parse_inr
from tests.support.builders import EXAMPLES, MANY_EXAMPLES


def read(text: str) -> int | None:
    try:
        return amounts.amount_nano(text)
    except AmountError:
        return None


def read_exactly(text: str) -> int | None:
    try:
        nano = parse_inr(text)
    except AmountError:
        return None
    return nano if nano >= 0 else None


@MANY_EXAMPLES
@given(st.text(alphabet="0123456789.+-eE _٣", max_size=24))
@example("5.")
@example(".5")
@example("1_0")
@example("999999999.999999999")
@example("1000000000.000000001")
@example("0.0000000001")
@example("-0")
def test_any_text_reads_as_it_does_elsewhere_and_again_the_same(text: str) -> None:
    assert read(text) == read_exactly(text) == read(text)


@EXAMPLES
@given(st.decimals("0", "999999999", places=9))
def test_a_decimal_and_its_text_are_the_same_amount(amount: Decimal) -> None:
    assert amounts.amount_nano(amount) == amounts.amount_nano(f"{amount:f}")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amounts, "KEPT", 10)
    amounts.forget()
    for n in range(1000):
        assert amounts.amount_nano(f"0.{n:04d}") == n * 100_000
        assert len(amounts._known) <= 10


@pytest.mark.parametrize("amount", [1.0, float("nan"), None, b"1", ["1"]])
def test_what_is_no_amount_is_an_error_even_beside_an_equal_one(amount: Any) -> None:
    assert amounts.amount_nano(1) == amounts.amount_nano("1")
    with pytest.raises(AmountError):
        amounts.amount_nano(amount)
