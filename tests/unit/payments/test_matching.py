"""The three-way match names every disagreement, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pipeline.accounts.payments import Dispute, Payment, Stray
from pipeline.payments.matching import Credited, match
from pipeline.razorpay.entities import PaymentEntity

AT_RAZORPAY = PaymentEntity("pay_1", 50_000, "INR", "captured", "order_1", captured=True)
ROW = Credited("pay_1", "org_1", 1, 500 * 10**9, 0)
RECEIPT = Payment("pay_1", "order_1", "org_1", "captured", 50_000, "INR", "upi", "", "", 0)


def _problems(
    at_razorpay: Any = AT_RAZORPAY, row: Any = ROW, receipt: Any = RECEIPT, stray: Any = None
) -> list[str]:
    found = match(
        {"pay_1": at_razorpay} if at_razorpay else {},
        [row] if row else [],
        {"pay_1": receipt} if receipt else {},
        {"pay_1": stray} if stray else {},
    )
    return [mismatch.problem for mismatch in found]


def test_what_matches_is_not_named() -> None:
    assert _problems() == []
    assert (
        _problems(
            structs.replace(AT_RAZORPAY, status="failed"), None, structs.replace(RECEIPT, status="failed")
        )
        == []
    )
    assert _problems(structs.replace(AT_RAZORPAY, status="created"), None, None) == []
    refunded = structs.replace(AT_RAZORPAY, status="refunded", amount_refunded=50_000)
    row = structs.replace(ROW, returned_nano=-500 * 10**9)
    assert _problems(refunded, row, structs.replace(RECEIPT, refunded_paise=50_000)) == []
    corrected = structs.replace(RECEIPT, refunded_paise=50_000, corrected_paise=50_000)
    assert _problems(refunded, ROW, corrected) == []
    assert _problems(AT_RAZORPAY, row, structs.replace(RECEIPT, disputed_paise=50_000)) == []
    with_fee = structs.replace(AT_RAZORPAY, amount=51_180)
    assert (
        _problems(with_fee, ROW, structs.replace(RECEIPT, amount_paise=51_180, credited_paise=50_000)) == []
    )


def test_what_was_never_credited_and_went_back_in_full_is_settled() -> None:
    refunded = structs.replace(AT_RAZORPAY, amount=100, status="refunded", amount_refunded=100)
    mismatched = structs.replace(RECEIPT, status="mismatched", amount_paise=100)
    stray = Stray("pay_1", "", 100, "INR")
    assert _problems(refunded, None, mismatched) == []
    assert _problems(refunded, None, None, stray) == []
    partly = structs.replace(refunded, status="captured", amount_refunded=99)
    assert _problems(partly, None, mismatched) == ["not_credited"]
    # What the receipt says was credited has to be in the ledger all the same.
    assert _problems(refunded, None, structs.replace(RECEIPT, amount_paise=100)) != []


def test_a_lost_dispute_that_is_not_debited_is_named() -> None:
    lost = Dispute("disp_1", "pay_1", "org_1", "lost", 5, 5, 0, "the payment was not credited")
    [found] = match({}, [], {}, {}, [lost, Dispute("disp_2", "pay_1", "org_1", "lost", 5, 5, 5)])
    assert (found.problem, found.payment_id) == ("dispute", "pay_1") and "disp_1" in found.detail


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"row": None, "receipt": None}, ["not_ours"]),
        ({"row": None, "receipt": structs.replace(RECEIPT, status="failed")}, ["not_credited"]),
        ({"row": None, "receipt": structs.replace(RECEIPT, status="mismatched")}, ["not_credited"]),
        ({"row": None}, ["not_credited", "receipt_without_credit"]),
        ({"at_razorpay": None}, ["unknown_at_razorpay"]),
        ({"receipt": None}, ["no_receipt"]),
        (
            {"row": structs.replace(ROW, topups=2, credited_nano=10**12)},
            ["credited_twice", "receipt"],
        ),
        ({"row": structs.replace(ROW, credited_nano=500 * 10**9 + 1)}, ["receipt"]),
        ({"at_razorpay": structs.replace(AT_RAZORPAY, amount=49_900)}, ["amount"]),
        (
            {"at_razorpay": structs.replace(AT_RAZORPAY, status="authorized", captured=False)},
            ["not_captured"],
        ),
        ({"at_razorpay": structs.replace(AT_RAZORPAY, amount_refunded=100)}, ["refund"]),
        ({"row": structs.replace(ROW, returned_nano=-(10**9))}, ["receipt"]),
        ({"receipt": structs.replace(RECEIPT, amount_paise=1)}, ["amount", "receipt"]),
        ({"receipt": structs.replace(RECEIPT, org="org_2")}, ["receipt"]),
        (
            {"at_razorpay": None, "row": None, "receipt": None, "stray": Stray("pay_1", "", 1, "INR")},
            ["not_ours"],
        ),
        ({"row": None, "receipt": None, "stray": Stray("pay_1", "", 1, "INR")}, ["not_ours"]),
    ],
)
def test_each_disagreement_is_named(changes: dict[str, Any], problems: list[str]) -> None:
    assert _problems(**changes) == problems
