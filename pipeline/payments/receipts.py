"""The receipt of a captured payment: what it holds, and asking the account's owner for it.

Owns: `Receipt`, a payment as it was when it was captured.
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
    """A captured payment, as it was when it was captured."""

    payment_id: str
    order_id: str
    amount_nano: int
    payer: Payer
    address: AddressView | None
    method: str
    paid_at_ms: int


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
        payer=Payer(payment.payer, payment.email, payment.contact),
        address=payment.address,
        method=payment.method,
        paid_at_ms=payment.paid_ms,
    )
