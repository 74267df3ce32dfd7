"""Bring what Razorpay tells to the org it is about: one way in for callback, webhooks and reconciler.

Owns: whose a payment is, and which command each state of a payment or refund becomes.
Called by: `payments/order_poller.py`, and by way of `api/services/accounts.py` the routes of orders and webhooks.
Next: `kafka/commands.py` takes the commands to the account's owner, who decides.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec

from pipeline.accounts.commands import (
    AccountCommand,
    Capture,
    Fail,
    FoundOrder,
    NoteStray,
    TakeRefund,
)
from pipeline.events import is_org
from pipeline.kafka.commands import CommandClient, InvalidCommandError, new_command_id
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayClient, RazorpayUnavailableError
from pipeline.razorpay.entities import PaymentEntity, RefundEntity, bounded

log = logging.getLogger(__name__)

ORG_MAX = 128
ORG_NOTE, PROMO_NOTE = "org", "promo"
"""The notes that this product puts on its orders."""
STRAY = "stray"


@dataclass(frozen=True)
class OrderOwner:
    """The org of an order; `found` is the order as Razorpay has it, where it had to be asked."""

    org: str
    found: FoundOrder | None = None


class PaymentIntake:
    """Settles payments and refunds. Without Razorpay's client it knows only the orders of the index."""

    def __init__(self, client: CommandClient, razorpay: RazorpayClient | None, orders: OrderIndex) -> None:
        """Send commands through `client`, and ask `razorpay` what `orders` does not know."""
        self._client = client
        self._razorpay = razorpay
        self._orders = orders

    async def payment(
        self, payment: PaymentEntity, *, command_id: str | None = None, fingerprint: str = ""
    ) -> dict[str, Any]:
        """Settle a payment in the state it is told to be in; the owner's answer, with its `status`.

        `status` is captured, mismatched, failed, pending, or stray for one that is no org's. Raises
        UnavailableError or RazorpayUnavailableError where that cannot be known now.
        """
        owner = await self._owner_of(payment.order_id)
        if owner is None:
            return await self._stray(payment)
        if not payment.is_captured and payment.status != "failed":
            return {"status": "pending"}
        fields: dict[str, Any] = {
            "id": command_id or new_command_id(),
            "org": owner.org,
            "payment_id": payment.id,
            "order_id": payment.order_id,
            "amount_paise": payment.amount,
            "currency": bounded(payment.currency),
            "paid_ms": payment.created_at * 1000,
            "method": bounded(payment.method),
            "email": bounded(payment.email),
            "contact": bounded(payment.contact),
            "fingerprint": fingerprint,
        }
        if not payment.is_captured:
            return await self._told(Fail(**fields))
        result = await self._told(Capture(**fields, order=owner.found))
        if result["status"] == "mismatched":
            log.error("payment %s does not match its order %s: not credited", payment.id, payment.order_id)
        return result

    async def refund(
        self, refund: RefundEntity, payment: PaymentEntity | None, *, failed: bool = False
    ) -> dict[str, Any]:
        """Settle a refund, its payment before it; the owner's answer. Raises as `payment` does."""
        order_id = payment.order_id if payment else self._orders.order_of(refund.payment_id)
        if order_id is None:
            payment = await self._at_razorpay().payment(refund.payment_id)
            order_id = payment.order_id if payment else None
        owner = await self._owner_of(order_id)
        if owner is None:
            return {"status": STRAY}
        if payment is not None and payment.is_captured:
            # The refund may be told of before the payment is: messages come in any order.
            await self.payment(payment)
        return await self._told(
            TakeRefund(
                new_command_id(),
                owner.org,
                refund.id,
                refund.payment_id,
                refund.amount,
                bounded(refund.currency),
                failed=failed or refund.status == "failed",
            )
        )

    async def ask(self, order_id: str) -> str:
        """Ask Razorpay about an order and settle what was paid; returns what became of it."""
        razorpay = self._at_razorpay()
        outcome = "open"
        for payment in await razorpay.payments_of(order_id):
            result = await self.payment(await self.captured(payment))
            if result["status"] in ("captured", "mismatched"):
                outcome = result["status"]
            if payment.amount_refunded:
                for refund in await razorpay.refunds_of(payment.id):
                    await self.refund(refund, payment)
        return outcome

    async def captured(self, payment: PaymentEntity) -> PaymentEntity:
        """Return a payment, captured first where the payer has authorised it and nobody has taken it yet."""
        if payment.status != "authorized":
            return payment
        return await self._at_razorpay().capture(payment) or payment

    async def _owner_of(self, order_id: str | None) -> OrderOwner | None:
        """Return the org of an order, None where it is none of ours."""
        if order_id is None:
            return None
        org = self._orders.org_of(order_id)
        if org is not None:
            return OrderOwner(org)
        order = await self._at_razorpay().order(order_id)
        org = order.note(ORG_NOTE) if order else None
        if order is None or org is None or len(org) > ORG_MAX or not is_org(org):
            return None
        promo = order.note(PROMO_NOTE)
        return OrderOwner(org, FoundOrder(order.amount, bounded(promo) if promo else None))

    async def _stray(self, payment: PaymentEntity) -> dict[str, Any]:
        if payment.is_captured:
            log.warning("payment %s of the Razorpay account is none of our orders", payment.id)
            note = NoteStray(
                new_command_id(),
                payment.id,
                bounded(payment.order_id),
                payment.amount,
                bounded(payment.currency),
            )
            await self._client.note(note)
        return {"status": STRAY}

    async def _told(self, command: AccountCommand) -> dict[str, Any]:
        reply = await self._client.send(command)
        if reply.refusal is not None:
            raise InvalidCommandError(f"{reply.refusal.code}: {reply.refusal.message}")
        result: dict[str, Any] = msgspec.json.decode(reply.result)
        return result

    def _at_razorpay(self) -> RazorpayClient:
        if self._razorpay is None:
            raise RazorpayUnavailableError("no Razorpay key is set")
        return self._razorpay
