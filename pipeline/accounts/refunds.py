"""Money that went back: what a refund made at Razorpay does to an account.

Owns: that a refund is debited once and a failed one reversed once, in whatever order its messages come.
Called by: `accounts/decide.py`. Next: `accounts/ledger.py` posts the entries.

`failed` is the end of a refund: a `processed` that comes after it is late and changes nothing. A promo bonus stays.
A refund that an operator's correction named is off the balance already: it is counted with its payment, not debited.
"""

from __future__ import annotations

from msgspec import structs

from pipeline.accounts.commands import CommandRefusal, TakeRefund
from pipeline.accounts.ledger import LedgerEntry, Posting
from pipeline.accounts.model import Account
from pipeline.accounts.payments import INR, Known, MoneyRecord, Payment, Refund
from pipeline.accounts.results import RefundTaken
from pipeline.accounts.returns import change_nano
from pipeline.money import NANO_PER_PAISA
from pipeline.outcomes import LedgerKind, RefundStatus, RefusalCode


def refund(account: Account, command: TakeRefund, known: Known) -> Posting[RefundTaken] | CommandRefusal:
    """Debit a refund, or reverse it where it failed; each once."""
    earlier, payment = known.refund, known.payment
    if any(record is not None and record.org != account.org for record in (earlier, payment)):
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such payment")
    if earlier is None or earlier.status == "ignored":
        return _take(account, command, earlier, payment)
    if earlier.status == "corrected":
        return _meet_correction(account, command, earlier, payment)
    if earlier.status == "debited" and command.failed and payment is not None:
        return _reverse(account, earlier, payment)
    return _nothing(account, earlier.status)


def _take(
    account: Account, command: TakeRefund, earlier: Refund | None, payment: Payment | None
) -> Posting[RefundTaken]:
    """Take in a refund that has not moved money here yet."""
    if command.failed:
        return _nothing(account, "failed", structs.replace(_record(account, command), status="failed"))
    problem = _problem(command, payment)
    if problem or payment is None:
        ignored = structs.replace(_record(account, command), status="ignored", problem=problem)
        return _nothing(account, "ignored", *(() if ignored == earlier else (ignored,)))
    return _debit(account, command, payment)


def _debit(account: Account, command: TakeRefund, payment: Payment) -> Posting[RefundTaken]:
    refunded = structs.replace(payment, refunded_paise=payment.refunded_paise + command.amount_paise)
    change = change_nano(payment, refunded)
    return Posting(
        RefundTaken("debited", account.spending.balance_nano + change),
        entries=_entries(payment, change, f"refund {command.refund_id}"),
        records=(refunded, _record(account, command)),
    )


def _meet_correction(
    account: Account, command: TakeRefund, earlier: Refund, payment: Payment | None
) -> Posting[RefundTaken]:
    """Count a refund that a correction has taken off the balance; where it failed, give that back."""
    uncounted = not earlier.payment_id
    if payment is None or (uncounted and _problem(command, payment)):
        return _nothing(account, "corrected")
    if uncounted:
        refunded = structs.replace(payment, refunded_paise=payment.refunded_paise + command.amount_paise)
        covered_paise = -change_nano(payment, refunded) // NANO_PER_PAISA
        payment = structs.replace(refunded, corrected_paise=payment.corrected_paise + covered_paise)
        earlier = structs.replace(_record(account, command), status="corrected")
    if command.failed:
        return _reverse(account, earlier, payment)
    return _nothing(account, "corrected", *((payment, earlier) if uncounted else ()))


def _reverse(account: Account, earlier: Refund, payment: Payment) -> Posting[RefundTaken]:
    kept = structs.replace(payment, refunded_paise=payment.refunded_paise - earlier.amount_paise)
    change = change_nano(payment, kept)
    return Posting(
        RefundTaken("failed", account.spending.balance_nano + change),
        entries=_entries(payment, change, f"refund {earlier.refund_id} failed and is reversed"),
        records=(kept, structs.replace(earlier, status="failed")),
    )


def _entries(payment: Payment, change: int, note: str) -> tuple[LedgerEntry, ...]:
    """Return the entry of a change in nano-rupees; none where a refund gives back only what was never credited."""
    entry = LedgerEntry(LedgerKind.REFUND, change, payment.payment_id, payment.order_id, note=note)
    return (entry,) if change else ()


def _nothing(account: Account, status: RefundStatus, *records: MoneyRecord) -> Posting[RefundTaken]:
    return Posting(RefundTaken(status, account.spending.balance_nano), records=records)


def _record(account: Account, command: TakeRefund) -> Refund:
    return Refund(command.refund_id, command.payment_id, account.org, "debited", command.amount_paise)


def _problem(command: TakeRefund, payment: Payment | None) -> str:
    if payment is None or payment.status != "captured":
        return "the payment was not credited"
    if command.currency != INR:
        return f"it is in {command.currency[:8]}, not {INR}"
    if not 0 < command.amount_paise <= payment.amount_paise - payment.refunded_paise:
        return f"it is over {command.amount_paise} paise, more than is left of the payment"
    return ""
