"""The receipt of a captured payment: what it holds, and asking the account's owner for it.

Owns: `Receipt`, a payment as it was when it was captured.
Called by: `api/routes/receipts.py`; `api/pages/receipt.py` shows one. Next: `kafka/commands.py`.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pipeline.accounts.commands import Find
from pipeline.accounts.model import Address
from pipeline.kafka.commands import CommandClient, new_command_id
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
    address: Address | None
    method: str
    paid_at_ms: int


async def receipt_of(client: CommandClient, org: str, payment_id: str) -> Receipt | None:
    """Return the receipt of an org's captured payment, None where it has none of this id.

    Raises UnavailableError where the account's owner does not answer.
    """
    if not 1 <= len(payment_id) <= PAYMENT_ID_MAX:
        return None
    reply = await client.send(Find(new_command_id(), org, payment_id=payment_id))
    payment = msgspec.json.decode(reply.result)["payment"]
    if payment is None or payment["status"] != "captured":
        return None
    return Receipt(
        payment_id=payment["payment_id"],
        order_id=payment["order_id"],
        amount_nano=payment["amount_paise"] * NANO_PER_PAISA,
        payer=Payer(payment["payer"], payment["email"], payment["contact"]),
        address=Address(**payment["address"]) if payment["address"] else None,
        method=payment["method"],
        paid_at_ms=payment["paid_ms"],
    )
