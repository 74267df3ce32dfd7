"""Money on its way back to the payer: how much of a payment's credit that takes off the balance. Pure.

Owns: the one rule for refunds and lost disputes.
Called by: `accounts/refunds.py` and `accounts/disputes.py` for the entries, `operations/audit.py` and
`payments/matching.py` to compare.

What was paid and what was credited differ where the payer bears Razorpay's fee, or pays less by an offer.
"""

from __future__ import annotations

from pipeline.accounts.payments import Payment
from pipeline.money import NANO_PER_PAISA


def credited_paise(payment: Payment) -> int:
    """Return what was credited for a captured payment, its bonus aside."""
    return payment.credited_paise or payment.amount_paise


def due_paise(payment: Payment) -> int:
    """Return what has to be off the balance for what went back to the payer so far.

    Where less was credited than was paid, a refund takes its own amount off, up to the credit. Where more was
    credited, it takes its share of the credit off, so that the whole payment takes the whole credit. What goes
    back beyond the payment (it was refunded, and then lost in a dispute too) counts in full.
    """
    returned = payment.refunded_paise + payment.disputed_paise
    credited, paid = credited_paise(payment), payment.amount_paise
    of_payment = min(returned, paid)
    share = min(of_payment, credited) if credited <= paid else credited * of_payment // paid
    return share + returned - of_payment


def posted_nano(payment: Payment) -> int:
    """Return what the entries of a payment's refunds and disputes come to, below zero: corrections cover the rest."""
    return -(due_paise(payment) - payment.corrected_paise) * NANO_PER_PAISA


def change_nano(before: Payment, after: Payment) -> int:
    """Return what the balance changes by when a payment's returns change; a debit is below zero."""
    return (due_paise(before) - due_paise(after)) * NANO_PER_PAISA
