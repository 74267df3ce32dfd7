"""Hold Razorpay's payments, the ledger and the receipts against each other. Pure.

Owns: what has to match, and the words for what does not.
Called by: `payments/reconcile.py`, which reads all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from pipeline.accounts.payments import Payment, Stray
from pipeline.money import NANO_PER_PAISA
from pipeline.razorpay.entities import PaymentEntity


class Credited(Struct, array_like=True, frozen=True):
    """What the ledger holds for a payment; a refund counts below zero."""

    payment_id: str
    org: str
    topups: int
    credited_nano: int
    refunded_nano: int


class Mismatch(Struct, frozen=True, order=True):
    """Something that does not match; `problem` is one of a few words, `detail` says it to a person."""

    payment_id: str
    problem: str
    org: str
    detail: str


def match(
    told: Mapping[str, PaymentEntity],
    ledger: Iterable[Credited],
    kept: Mapping[str, Payment],
    strays: Mapping[str, Stray],
) -> list[Mismatch]:
    """Return what does not match between Razorpay (`told`), the ledger and the receipts (`kept`)."""
    rows: dict[str, list[Credited]] = {}
    for row in ledger:
        rows.setdefault(row.payment_id, []).append(row)
    found: list[Mismatch] = []
    for payment_id in sorted(told.keys() | rows.keys() | kept.keys() | strays.keys()):
        credited = rows.get(payment_id, [])
        found += _payment(payment_id, told.get(payment_id), credited, kept.get(payment_id))
        if payment_id in strays and payment_id not in told and not credited:
            detail = f"Razorpay told of it for order {strays[payment_id].order_id or 'none'}"
            found.append(Mismatch(payment_id, "not_ours", "", detail))
    return found


def _payment(
    payment_id: str, told: PaymentEntity | None, rows: list[Credited], kept: Payment | None
) -> Iterator[Mismatch]:
    org = kept.org if kept else rows[0].org if rows else ""
    credited = sum(row.topups for row in rows)
    if credited > 1:
        yield Mismatch(payment_id, "credited_twice", org, f"the ledger credits it {credited} times")
    if kept is not None and kept.status == "mismatched":
        yield Mismatch(payment_id, "not_credited", org, kept.problem)
    elif told is not None and told.is_captured and not credited:
        problem = "not_credited" if kept else "not_ours"
        detail = (
            f"Razorpay has captured {told.amount} paise for order {told.order_id}, the ledger has nothing"
        )
        yield Mismatch(payment_id, problem, org, detail)
    if not credited:
        if kept is not None and kept.status == "captured":
            yield Mismatch(payment_id, "receipt_without_credit", org, "there is a receipt, but no credit")
        return
    yield from _credited(payment_id, told, rows[0], kept)


def _credited(
    payment_id: str, told: PaymentEntity | None, row: Credited, kept: Payment | None
) -> Iterator[Mismatch]:
    """Compare a payment that the ledger credits with what Razorpay and its receipt say."""
    paise, rest = divmod(row.credited_nano, NANO_PER_PAISA)
    back = -row.refunded_nano // NANO_PER_PAISA
    if told is None:
        yield Mismatch(payment_id, "unknown_at_razorpay", row.org, "credited, but Razorpay does not list it")
    elif not told.is_captured:
        yield Mismatch(payment_id, "not_captured", row.org, f"credited, but Razorpay says {told.status}")
    elif (told.amount, told.currency, 0) != (paise, "INR", rest):
        detail = f"Razorpay has {told.amount} paise {told.currency}, the ledger {paise}"
        yield Mismatch(payment_id, "amount", row.org, detail)
    if told is not None and (told.amount_refunded or 0) != back:
        detail = f"Razorpay has refunded {told.amount_refunded or 0} paise, the ledger {back}"
        yield Mismatch(payment_id, "refund", row.org, detail)
    if kept is None or kept.status != "captured":
        yield Mismatch(payment_id, "no_receipt", row.org, "credited, but there is no receipt for it")
    elif (kept.amount_paise, kept.org, kept.refunded_paise) != (paise, row.org, back):
        detail = f"the receipt says {kept.amount_paise} paise of {kept.org}, the ledger {paise} of {row.org}"
        yield Mismatch(payment_id, "receipt", row.org, detail)
