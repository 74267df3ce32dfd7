"""Hold Razorpay's payments, the ledger and the receipts against each other. Pure.

Owns: what has to match, and the words for what does not.
Called by: `payments/reconcile.py`, which reads all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from pipeline.accounts.payments import Dispute, Payment, Stray
from pipeline.accounts.returns import credited_paise, posted_nano
from pipeline.money import NANO_PER_PAISA
from pipeline.razorpay.entities import PaymentEntity


class Credited(Struct, array_like=True, frozen=True):
    """What the ledger holds for a payment; what refunds and disputes took back counts below zero."""

    payment_id: str
    org: str
    topups: int
    credited_nano: int
    returned_nano: int


class Mismatch(Struct, frozen=True, order=True):
    """Something that does not match; `problem` is one of a few words, `detail` says it to a person."""

    payment_id: str
    problem: str
    org: str
    detail: str


def match(
    at_razorpay: Mapping[str, PaymentEntity],
    ledger: Iterable[Credited],
    receipts: Mapping[str, Payment],
    strays: Mapping[str, Stray],
    disputes: Iterable[Dispute] = (),
) -> list[Mismatch]:
    """Return what does not match between Razorpay (`at_razorpay`), the ledger and the receipts (`receipts`).

    What was never credited and all of which went back to the payer matches. `disputes` are those known here.
    """
    rows: dict[str, list[Credited]] = {}
    for row in ledger:
        rows.setdefault(row.payment_id, []).append(row)
    found: list[Mismatch] = []
    for payment_id in sorted(at_razorpay.keys() | rows.keys() | receipts.keys() | strays.keys()):
        credited = rows.get(payment_id, [])
        there = at_razorpay.get(payment_id)
        if (
            there is not None
            and there.is_refunded
            and not credited
            and not _is_captured(receipts.get(payment_id))
        ):
            continue
        found += _payment(payment_id, there, credited, receipts.get(payment_id))
        if payment_id in strays and payment_id not in at_razorpay and not credited:
            detail = f"Razorpay told of it for order {strays[payment_id].order_id or 'none'}"
            found.append(Mismatch(payment_id, "not_ours", "", detail))
    for dispute in disputes:
        if dispute.problem:
            detail = f"dispute {dispute.dispute_id} was lost, but is not debited: {dispute.problem}"
            found.append(Mismatch(dispute.payment_id, "dispute", dispute.org, detail))
    return found


def _is_captured(receipt: Payment | None) -> bool:
    return receipt is not None and receipt.status == "captured"


def _payment(
    payment_id: str, at_razorpay: PaymentEntity | None, rows: list[Credited], receipt: Payment | None
) -> Iterator[Mismatch]:
    org = receipt.org if receipt else rows[0].org if rows else ""
    credited = sum(row.topups for row in rows)
    if credited > 1:
        yield Mismatch(payment_id, "credited_twice", org, f"the ledger credits it {credited} times")
    if receipt is not None and receipt.status == "mismatched":
        yield Mismatch(payment_id, "not_credited", org, receipt.problem)
    elif at_razorpay is not None and at_razorpay.is_captured and not credited:
        problem = "not_credited" if receipt else "not_ours"
        detail = f"Razorpay has captured {at_razorpay.amount} paise for order {at_razorpay.order_id}, the ledger has nothing"
        yield Mismatch(payment_id, problem, org, detail)
    if not credited:
        if receipt is not None and receipt.status == "captured":
            yield Mismatch(payment_id, "receipt_without_credit", org, "there is a receipt, but no credit")
        return
    yield from _credited(payment_id, at_razorpay, rows[0], receipt)


def _credited(
    payment_id: str, at_razorpay: PaymentEntity | None, row: Credited, receipt: Payment | None
) -> Iterator[Mismatch]:
    """Compare a payment that the ledger credits with what Razorpay and its receipt say."""
    if at_razorpay is None:
        yield Mismatch(payment_id, "unknown_at_razorpay", row.org, "credited, but Razorpay does not list it")
    elif not at_razorpay.is_captured:
        yield Mismatch(
            payment_id, "not_captured", row.org, f"credited, but Razorpay says {at_razorpay.status}"
        )
    if receipt is None or receipt.status != "captured":
        yield Mismatch(payment_id, "no_receipt", row.org, "credited, but there is no receipt for it")
        return
    if at_razorpay is not None:
        yield from _receipt_at_razorpay(at_razorpay, receipt)
    said = (receipt.org, credited_paise(receipt) * NANO_PER_PAISA, posted_nano(receipt))
    if said != (row.org, row.credited_nano, row.returned_nano):
        detail = (
            f"by the receipt {receipt.org} was credited {said[1]} and debited {-said[2]} nano-rupees, "
            f"by the ledger {row.org} {row.credited_nano} and {-row.returned_nano}"
        )
        yield Mismatch(payment_id, "receipt", row.org, detail)


def _receipt_at_razorpay(at_razorpay: PaymentEntity, receipt: Payment) -> Iterator[Mismatch]:
    """Compare what was paid and refunded by the receipt with what Razorpay says."""
    payment_id, org = receipt.payment_id, receipt.org
    if at_razorpay.is_captured and (at_razorpay.amount, at_razorpay.currency) != (
        receipt.amount_paise,
        "INR",
    ):
        detail = f"Razorpay has {at_razorpay.amount} paise {at_razorpay.currency}, the receipt {receipt.amount_paise}"
        yield Mismatch(payment_id, "amount", org, detail)
    refunded = at_razorpay.amount_refunded or 0
    if refunded != receipt.refunded_paise:
        detail = f"Razorpay has refunded {refunded} paise, the receipt says {receipt.refunded_paise}"
        yield Mismatch(payment_id, "refund", org, detail)
