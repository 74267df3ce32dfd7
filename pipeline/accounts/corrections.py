"""What an operator posts by hand: a credit, or with a minus a correction.

Owns: the bounds of one, that an idempotency key counts once for ever, and that a correction for a refund takes the
refund's place.
Called by: `accounts/decide.py`. Next: `accounts/ledger.py` posts the entry.

The last answers of an account are remembered whatever the command (`accounts/decide.py`); here a key has to hold for
longer than that, as an operator may repeat a command days later.
"""

from __future__ import annotations

from pipeline.accounts.commands import CommandRefusal, Credit
from pipeline.accounts.ledger import CREDITED_MAX_NANO, LedgerEntry, Posting
from pipeline.accounts.model import Account
from pipeline.accounts.payments import Known, MoneyRecord, NamedCredit, Refund
from pipeline.accounts.results import CreditPosted
from pipeline.money import MAX_RUPEES, NANO_PER_PAISA, NANO_PER_RUPEE
from pipeline.outcomes import LedgerKind, RefusalCode


def credit(account: Account, command: Credit, known: Known) -> Posting[CreditPosted] | CommandRefusal:
    """Post an operator's credit or correction, once for each idempotency key."""
    earlier = known.credit
    if earlier is not None and (earlier.org, earlier.fingerprint) == (account.org, command.fingerprint):
        return Posting(CreditPosted(account.org, earlier.balance_nano))
    refusal = _refusal(account, command, known)
    if refusal is not None:
        return refusal
    balance_nano = account.spending.balance_nano + command.amount_nano
    entry = LedgerEntry(LedgerKind.CORRECTION, command.amount_nano, note=command.reason)
    records: list[MoneyRecord] = []
    if command.fingerprint:
        records.append(NamedCredit(command.id, account.org, command.fingerprint, balance_nano))
    if command.refund_id:
        paise = -command.amount_nano // NANO_PER_PAISA
        records.append(Refund(command.refund_id, "", account.org, "corrected", paise))
    return Posting(CreditPosted(account.org, balance_nano), entries=(entry,), records=tuple(records))


def _refusal(account: Account, command: Credit, known: Known) -> CommandRefusal | None:
    """Return why an operator's credit is not posted, None where it is."""
    invalid = RefusalCode.INVALID_REQUEST
    if known.credit is not None:
        return CommandRefusal(invalid, "this idempotency key was used for another credit", "Idempotency-Key")
    if command.amount_nano == 0 or abs(command.amount_nano) > MAX_RUPEES * NANO_PER_RUPEE:
        return CommandRefusal(invalid, "the amount is zero or out of range", "amount_inr")
    if abs(account.spending.credited_nano + command.amount_nano) > CREDITED_MAX_NANO:
        return CommandRefusal(invalid, "the account's credits would be out of range", "amount_inr")
    if command.refund_id and command.amount_nano > 0:
        return CommandRefusal(invalid, "a correction for a refund is below zero", "amount_inr")
    refund = known.refund
    if refund is not None and (refund.org != account.org or refund.status != "ignored"):
        message = f"refund {refund.refund_id} has had its effect: it is {refund.status}"
        return CommandRefusal(invalid, message, "refund_id")
    return None
