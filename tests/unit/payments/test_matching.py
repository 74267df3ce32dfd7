"""The three-way match names every disagreement, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pipeline.accounts.payments import Payment, Stray
from pipeline.payments.matching import Credited, match
from pipeline.razorpay.entities import PaymentEntity

TOLD = PaymentEntity("pay_1", 50_000, "INR", "captured", "order_1", captured=True)
ROW = Credited("pay_1", "org_1", 1, 500 * 10**9, 0)
KEPT = Payment("pay_1", "order_1", "org_1", "captured", 50_000, "INR", "upi", "", "", 0)


def _problems(told: Any = TOLD, row: Any = ROW, kept: Any = KEPT, stray: Any = None) -> list[str]:
    found = match(
        {"pay_1": told} if told else {},
        [row] if row else [],
        {"pay_1": kept} if kept else {},
        {"pay_1": stray} if stray else {},
    )
    return [mismatch.problem for mismatch in found]


def test_what_matches_is_not_named() -> None:
    assert _problems() == []
    assert (
        _problems(structs.replace(TOLD, status="failed"), None, structs.replace(KEPT, status="failed")) == []
    )
    assert _problems(structs.replace(TOLD, status="created"), None, None) == []
    refunded = structs.replace(TOLD, status="refunded", amount_refunded=50_000)
    row = structs.replace(ROW, refunded_nano=-500 * 10**9)
    assert _problems(refunded, row, structs.replace(KEPT, refunded_paise=50_000)) == []


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"row": None, "kept": None}, ["not_ours"]),
        ({"row": None, "kept": structs.replace(KEPT, status="failed")}, ["not_credited"]),
        ({"row": None, "kept": structs.replace(KEPT, status="mismatched")}, ["not_credited"]),
        ({"row": None}, ["not_credited", "receipt_without_credit"]),
        ({"told": None}, ["unknown_at_razorpay"]),
        ({"kept": None}, ["no_receipt"]),
        (
            {"row": structs.replace(ROW, topups=2, credited_nano=10**12)},
            ["credited_twice", "amount", "receipt"],
        ),
        ({"row": structs.replace(ROW, credited_nano=500 * 10**9 + 1)}, ["amount"]),
        ({"told": structs.replace(TOLD, amount=49_900)}, ["amount"]),
        ({"told": structs.replace(TOLD, status="authorized", captured=False)}, ["not_captured"]),
        ({"told": structs.replace(TOLD, amount_refunded=100)}, ["refund"]),
        ({"row": structs.replace(ROW, refunded_nano=-(10**9))}, ["refund", "receipt"]),
        ({"kept": structs.replace(KEPT, amount_paise=1)}, ["receipt"]),
        ({"kept": structs.replace(KEPT, org="org_2")}, ["receipt"]),
        ({"told": None, "row": None, "kept": None, "stray": Stray("pay_1", "", 1, "INR")}, ["not_ours"]),
        ({"row": None, "kept": None, "stray": Stray("pay_1", "", 1, "INR")}, ["not_ours"]),
    ],
)
def test_each_disagreement_is_named(changes: dict[str, Any], problems: list[str]) -> None:
    assert _problems(**changes) == problems
