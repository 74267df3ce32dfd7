"""Bring what Razorpay tells to the org it is about: one way in for callback, webhooks and reconciler.

Owns: whose a payment is, and which command each state of a payment, refund or dispute becomes.
Called by: `payments/order_poller.py`, `payments/returns_poller.py`, `payments/settling.py`, and by way of `api/services/accounts.py` the routes of orders and webhooks.
Next: `kafka/commands.py` takes the commands to the account's owner, who decides.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.accounts.commands import (
    AccountCommand,
    Capture,
    CommandRefusal,
    Fail,
    FoundOrder,
    NoteStray,
    R,
    TakeDispute,
    TakeRefund,
)
from pipeline.events import is_org
from pipeline.kafka.commands import CommandClient, CommandRefusedError, new_command_id
from pipeline.outcomes import DisputeStatus, PaymentStatus, RefundStatus
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayClient, RazorpayUnavailableError
from pipeline.razorpay.entities import DisputeEntity, PaymentEntity, RefundEntity, bounded

log = logging.getLogger(__name__)

ORG_MAX = 128
ORG_NOTE, PROMO_NOTE = "org", "promo"
"""The notes that this product puts on its orders."""

PaymentOutcome: TypeAlias = PaymentStatus | Literal["pending", "stray"]
"""What became of a payment: as its owner says, or pending until Razorpay has the money, or no org's."""
RefundOutcome: TypeAlias = RefundStatus | Literal["stray"]
DisputeOutcome: TypeAlias = DisputeStatus | Literal["stray"]
OrderOutcome = Literal["captured", "mismatched", "open"]
"""What asking about an order came to: its payment was credited, or does not match it, or none was captured."""


@dataclass(frozen=True)
class IntakeResult:
    """What became of a payment; `balance_nano` where its owner was asked to credit it."""

    status: PaymentOutcome
    balance_nano: int | None = None


@dataclass(frozen=True)
class OrderOwner:
    """An order's org; `found` is the order as Razorpay has it, where it had to be asked.

    `amount_paise` is what was ordered, None where that is not known here.
    """

    order_id: str
    org: str
    amount_paise: int | None = None
    found: FoundOrder | None = None


class PaymentIntake:
    """Takes in payments and refunds. Without Razorpay's client it knows only the orders of the index."""

    def __init__(self, client: CommandClient, razorpay: RazorpayClient | None, orders: OrderIndex) -> None:
        """Send commands through `client`, and ask `razorpay` what `orders` does not know."""
        self._client = client
        self._razorpay = razorpay
        self._orders = orders

    async def payment(
        self,
        payment: PaymentEntity,
        *,
        command_id: str | None = None,
        fingerprint: str = "",
        settled: bool = False,
    ) -> IntakeResult:
        """Take in a payment in the state that Razorpay says it is in, and return what became of it.

        `settled`: an operator has decided that one of another amount than was ordered is credited as it is.
        Raises UnavailableError or RazorpayUnavailableError where that cannot be known now, CommandRefusedError
        where the payment is another org's, and InvalidCommandError where Razorpay's fields are out of bounds.
        """
        owner = await self._owner_of(payment.order_id)
        if owner is None:
            return await self._stray(payment)
        command_id = command_id or new_command_id()
        if payment.is_captured:
            order_paid = payment.amount != owner.amount_paise and await self._is_paid(owner.order_id)
            capture = await self._result(
                _capture(payment, owner, command_id, fingerprint, order_paid=order_paid, settled=settled)
            )
            if capture.noted:
                # Once: the order is asked about again and again, and `metering reconcile` goes on telling of it.
                log.error("payment %s does not match its order %s: not credited", payment.id, owner.order_id)
            return IntakeResult(capture.status, capture.balance_nano)
        if payment.status == "failed":
            failure = await self._result(_failure(payment, owner, command_id, fingerprint))
            return IntakeResult(failure.status)
        return IntakeResult("pending")

    async def refund(
        self, refund: RefundEntity, payment: PaymentEntity | None, *, failed: bool = False
    ) -> RefundOutcome:
        """Take in a refund, its payment before it, and return what became of it. Raises as `payment` does."""
        order_id = payment.order_id if payment else self._orders.order_of(refund.payment_id)
        if order_id is None:
            payment = await self._at_razorpay().payment(refund.payment_id)
            order_id = payment.order_id if payment else None
        owner = await self._owner_of(order_id)
        if owner is None:
            return "stray"
        if payment is not None and payment.is_captured:
            # The refund may be told of before the payment is: messages come in any order.
            await self.payment(payment)
        taken = await self._result(
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
        return taken.status

    async def dispute(
        self, dispute: DisputeEntity, payment: PaymentEntity | None, *, status: str = ""
    ) -> DisputeOutcome:
        """Take in a dispute, its payment before it, and return where it stands; `status` is more exact than its own.

        Raises as `payment` does.
        """
        payment = payment or await self._at_razorpay().payment(dispute.payment_id)
        owner = await self._owner_of(payment.order_id if payment else None)
        if owner is None:
            return "stray"
        if payment is not None and payment.is_captured:
            await self.payment(payment)
        stands = _dispute_status(status or dispute.status)
        deducted = dispute.amount if dispute.amount_deducted is None else dispute.amount_deducted
        taken = await self._result(
            TakeDispute(
                new_command_id(),
                owner.org,
                dispute.id,
                dispute.payment_id,
                stands,
                dispute.amount,
                deducted if stands == "lost" else 0,
                bounded(dispute.currency),
            )
        )
        return taken.status

    async def ask(self, order_id: str) -> OrderOutcome:
        """Ask Razorpay about an order, take in its payments and refunds, and return what it came to."""
        razorpay = self._at_razorpay()
        outcome: OrderOutcome = "open"
        for payment in await razorpay.payments_of(order_id):
            taken = await self.payment(await self.captured(payment))
            if taken.status in ("captured", "mismatched"):
                outcome = taken.status
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
            return OrderOwner(order_id, org, self._orders.amount_of(order_id))
        order = await self._at_razorpay().order(order_id)
        org = order.note(ORG_NOTE) if order else None
        if order is None or org is None or len(org) > ORG_MAX or not is_org(org):
            return None
        promo = order.note(PROMO_NOTE)
        found = FoundOrder(order.amount, bounded(promo) if promo else None)
        return OrderOwner(order_id, org, order.amount, found)

    async def _is_paid(self, order_id: str) -> bool:
        """Whether Razorpay says that an order is paid, whatever the amount of the payment that paid it."""
        if self._razorpay is None:
            return False
        order = await self._razorpay.order(order_id)
        return order is not None and order.status == "paid"

    async def _stray(self, payment: PaymentEntity) -> IntakeResult:
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
        return IntakeResult("stray")

    async def _result(self, command: AccountCommand[R]) -> R:
        """Return a command's result. Raises CommandRefusedError where its owner refuses it."""
        answer = await self._client.send(command)
        if isinstance(answer, CommandRefusal):
            raise CommandRefusedError(answer)
        return answer

    def _at_razorpay(self) -> RazorpayClient:
        if self._razorpay is None:
            raise RazorpayUnavailableError("no Razorpay key is set")
        return self._razorpay


def _dispute_status(word: str) -> DisputeStatus:
    """Return where a dispute stands by Razorpay's word: it is open until a word says that it is decided."""
    match word:
        case "lost" | "closed" | "won":
            return word
        case "reversed":
            return "won"
        case _:
            return "open"


def _capture(
    payment: PaymentEntity,
    owner: OrderOwner,
    command_id: str,
    fingerprint: str,
    *,
    order_paid: bool,
    settled: bool,
) -> Capture:
    return Capture(
        id=command_id,
        org=owner.org,
        payment_id=payment.id,
        order_id=owner.order_id,
        amount_paise=payment.amount,
        currency=bounded(payment.currency),
        paid_ms=payment.created_at * 1000,
        method=bounded(payment.method),
        email=bounded(payment.email),
        contact=bounded(payment.contact),
        order=owner.found,
        fingerprint=fingerprint,
        order_paid=order_paid,
        settled=settled,
    )


def _failure(payment: PaymentEntity, owner: OrderOwner, command_id: str, fingerprint: str) -> Fail:
    return Fail(
        id=command_id,
        org=owner.org,
        payment_id=payment.id,
        order_id=owner.order_id,
        amount_paise=payment.amount,
        currency=bounded(payment.currency),
        paid_ms=payment.created_at * 1000,
        method=bounded(payment.method),
        email=bounded(payment.email),
        contact=bounded(payment.contact),
        fingerprint=fingerprint,
    )
