"""Money that a payer's bank takes back: what a dispute of a payment does to an account.

Owns: that a lost dispute is debited once and given back once where it is won after all, in whatever order its
messages come.
Called by: `accounts/decide.py`. Next: `accounts/returns.py` says how much, `accounts/ledger.py` posts the entries.

A dispute only moves on: open, closed without money, lost, won. A message of an earlier stage than the known one
is late and changes nothing. A dispute that is fought again after it was won is another one, with an id of its own.
"""

from __future__ import annotations

from msgspec import structs

from pipeline.accounts.commands import CommandRefusal, TakeDispute
from pipeline.accounts.ledger import LedgerEntry, Posting
from pipeline.accounts.model import Account
from pipeline.accounts.payments import INR, Dispute, Known, Payment
from pipeline.accounts.results import DisputeTaken
from pipeline.accounts.returns import change_nano
from pipeline.outcomes import DisputeStatus, LedgerKind, RefusalCode

_STAGE: dict[DisputeStatus, int] = {"open": 0, "closed": 1, "lost": 2, "won": 3}


def take_dispute(
    account: Account, command: TakeDispute, known: Known
) -> Posting[DisputeTaken] | CommandRefusal:
    """Take in where a dispute stands: debit it where it is lost, give that back where it is won; each once."""
    earlier, payment = known.dispute, known.payment
    if any(record is not None and record.org != account.org for record in (earlier, payment)):
        return CommandRefusal(RefusalCode.NOT_FOUND, "no such payment")
    dispute = _told(account, command, earlier)
    problem = _problem(dispute, command.currency, payment) if dispute.status == "lost" else ""
    counted_paise = dispute.deducted_paise if dispute.status == "lost" and not problem else 0
    dispute = structs.replace(dispute, counted_paise=counted_paise, problem=problem)
    balance_nano = account.spending.balance_nano
    if payment is None:
        records = () if dispute == earlier else (dispute,)
        return Posting(DisputeTaken(dispute.status, balance_nano), records=records)
    after = _with(payment, dispute, counted_paise - (earlier.counted_paise if earlier else 0))
    change = change_nano(payment, after)
    entry = LedgerEntry(
        LedgerKind.DISPUTE, change, payment.payment_id, payment.order_id, note=_note(dispute, change)
    )
    return Posting(
        DisputeTaken(dispute.status, balance_nano + change),
        entries=(entry,) if change else (),
        records=(*(() if after == payment else (after,)), *(() if dispute == earlier else (dispute,))),
    )


def _told(account: Account, command: TakeDispute, earlier: Dispute | None) -> Dispute:
    """Return the dispute as it stands after a message; of two about the same stage the greater deduction holds."""
    told = Dispute(
        command.dispute_id,
        command.payment_id,
        account.org,
        command.status,
        command.amount_paise,
        max(command.deducted_paise, 0),
    )
    if earlier is None or _STAGE[told.status] > _STAGE[earlier.status]:
        return told
    if told.status == earlier.status:
        return structs.replace(earlier, deducted_paise=max(earlier.deducted_paise, told.deducted_paise))
    return earlier


def _problem(dispute: Dispute, currency: str, payment: Payment | None) -> str:
    """Return why a lost dispute is not debited, nothing where it is."""
    if payment is None or payment.status != "captured":
        return "the payment was not credited"
    if currency != INR:
        return f"it is in {currency[:8]}, not {INR}"
    if dispute.deducted_paise > payment.amount_paise:
        return f"it took {dispute.deducted_paise} paise, more than was paid"
    return ""


def _with(payment: Payment, dispute: Dispute, counted_paise: int) -> Payment:
    """Return a payment with a dispute as it stands, and so many more paise of it counted."""
    still_open = {name: paise for name, paise in payment.open_disputes.items() if name != dispute.dispute_id}
    if dispute.status == "open":
        still_open[dispute.dispute_id] = dispute.amount_paise
    return structs.replace(
        payment, disputed_paise=payment.disputed_paise + counted_paise, open_disputes=still_open
    )


def _note(dispute: Dispute, change: int) -> str:
    return f"dispute {dispute.dispute_id} was {'lost' if change < 0 else 'won: given back'}"
