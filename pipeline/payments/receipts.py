"""The receipt of a captured payment: what it holds, and asking the account's owner for it.

Owns: `Receipt`, a payment as it was when it was captured, and what went back of it since.
Called by: `api/routes/receipts.py`; `api/pages/receipt.py` shows one. Next: `kafka/commands.py`.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.accounts.commands import CommandRefusal, Find
from pipeline.accounts.results import AddressView
from pipeline.kafka.commands import CommandClient, CommandRefusedError, new_command_id
from pipeline.money import NANO_PER_PAISA

PAYMENT_ID_MAX = 100


class Payer(Struct, frozen=True):
    """Who paid, as Razorpay and the billing address have it."""

    name: str
    email: str
    contact: str


class Receipt(Struct, frozen=True):
    """A captured payment, as it was when it was captured, and what went back to the payer since.

    `amount_nano` was paid and `credited_nano` credited, its bonus aside: they differ by a fee that the payer bore,
    or an offer. `in_dispute_nano` is what undecided disputes may still take back.
    """

    payment_id: str
    order_id: str
    amount_nano: int
    credited_nano: int
    payer: Payer
    address: AddressView | None
    method: str
    paid_at_ms: int
    refunded_nano: int = 0
    disputed_nano: int = 0
    in_dispute_nano: int = 0


async def receipt_of(client: CommandClient, org: str, payment_id: str) -> Receipt | None:
    """Return the receipt of an org's captured payment, None where it has none of this id.

    Raises CommandRefusedError, and UnavailableError where the account's owner does not answer.
    """
    if not 1 <= len(payment_id) <= PAYMENT_ID_MAX:
        return None
    found = await client.send(Find(new_command_id(), org, payment_id=payment_id))
    if isinstance(found, CommandRefusal):
        raise CommandRefusedError(found)
    payment = found.payment
    if payment is None or payment.status != "captured":
        return None
    return Receipt(
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        amount_nano=payment.amount_paise * NANO_PER_PAISA,
        credited_nano=(payment.credited_paise or payment.amount_paise) * NANO_PER_PAISA,
        payer=Payer(payment.payer, payment.email, payment.contact),
        address=payment.address,
        method=payment.method,
        paid_at_ms=payment.paid_ms,
        refunded_nano=payment.refunded_paise * NANO_PER_PAISA,
        disputed_nano=payment.disputed_paise * NANO_PER_PAISA,
        in_dispute_nano=sum(payment.open_disputes.values()) * NANO_PER_PAISA,
    )
