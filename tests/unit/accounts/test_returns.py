"""How much of a payment's credit goes back with its refunds and disputes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pipeline.accounts.payments import Payment, decode_payment
from pipeline.accounts.returns import credited_paise, due_paise
from tests.support.builders import EXAMPLES


def _payment(paid: int, credited: int, refunded: int = 0, disputed: int = 0) -> Payment:
    return Payment(
        "p", "o", "org", "captured", paid, "INR", "upi", "", "", 0,
        refunded_paise=refunded, disputed_paise=disputed, credited_paise=credited,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("paid", "credited", "refunded", "disputed", "due"),
    [
        (50_000, 50_000, 20_000, 0, 20_000),
        # The payer bore a fee of 11.80: what was credited goes back, not the fee.
        (51_180, 50_000, 51_180, 0, 50_000),
        (51_180, 50_000, 50_000, 0, 50_000),
        (51_180, 50_000, 20_000, 0, 20_000),
        (51_180, 50_000, 0, 51_180, 50_000),
        # An offer took 50 off: half of what was paid is half of what was credited.
        (45_000, 50_000, 45_000, 0, 50_000),
        (45_000, 50_000, 22_500, 0, 25_000),
        (45_000, 50_000, 22_500, 22_500, 50_000),
        # It went back twice.
        (51_180, 50_000, 51_180, 51_180, 101_180),
        (45_000, 50_000, 45_000, 1, 50_001),
    ],
)
def test_what_is_due(paid: int, credited: int, refunded: int, disputed: int, due: int) -> None:
    assert due_paise(_payment(paid, credited, refunded, disputed)) == due


PAISE = st.integers(1, 200_000)


@EXAMPLES
@given(PAISE, PAISE, st.integers(0, 200_000), st.integers(0, 200_000))
def test_more_that_goes_back_never_takes_less_and_all_takes_all(
    paid: int, credited: int, back: int, more: int
) -> None:
    due = [due_paise(_payment(paid, credited, paise)) for paise in (0, back, back + more, paid)]
    assert due[0] == 0 and due[1] <= due[2]
    assert due[3] == credited
    assert due_paise(_payment(paid, credited, 0, back)) == due[1]


def test_a_payment_that_an_earlier_release_kept_was_credited_as_it_was_paid() -> None:
    new = _payment(50_000, 50_000, 20_000)
    fields = list(structs.astuple(new))[:14]
    old = decode_payment(msgspec.msgpack.encode(fields))
    assert credited_paise(old) == 50_000 and due_paise(old) == 20_000
    assert old.open_disputes == {} and old.corrected_paise == 0
