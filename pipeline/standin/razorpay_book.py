"""What the stand-in for Razorpay knows: orders, payments, refunds, disputes, and the events it has to tell.

Owns: the states a payment goes through, and the entities as Razorpay's documentation shows them.
Called by: `standin/razorpay.py`. Time is an argument; ids are counted, so a test can foresee them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

Entity = dict[str, Any]

AMOUNT_MIN_PAISE = 100
RECEIPT_CHARS_MAX = 40


class RefusedError(Exception):
    """What Razorpay answers with BAD_REQUEST_ERROR and a description."""


DISPUTE_ENDS = {
    "action_required": "open",
    "under_review": "under_review",
    "closed": "closed",
    "lost": "lost",
    "won": "won",
    "reversed": "won",
}
"""What may happen to a dispute, and the status it has then. One that was lost may still be won: it is reversed."""


class Book:
    """The account's orders, payments, refunds and disputes. Events are gathered in `events` for whoever sends them."""

    def __init__(self) -> None:
        """Start with an empty account."""
        self.orders: dict[str, Entity] = {}
        self.payments: dict[str, Entity] = {}
        self.refunds: dict[str, Entity] = {}
        self.disputes: dict[str, Entity] = {}
        self.events: list[Entity] = []
        self._numbers = itertools.count(1)

    def dump(self) -> Entity:
        """Return everything, for a file."""
        return {
            "orders": self.orders,
            "payments": self.payments,
            "refunds": self.refunds,
            "disputes": self.disputes,
        }

    def load(self, kept: Mapping[str, Any]) -> None:
        """Take up what was kept in a file."""
        self.orders, self.payments, self.refunds = kept["orders"], kept["payments"], kept["refunds"]
        self.disputes = kept.get("disputes", {})
        everything = (self.orders, self.payments, self.refunds, self.disputes)
        self._numbers = itertools.count(1 + sum(map(len, everything)))

    def create_order(self, wanted: Mapping[str, Any], at_s: int) -> Entity:
        """Make an order. Raises RefusedError."""
        amount = wanted.get("amount")
        if not isinstance(amount, int) or amount < AMOUNT_MIN_PAISE:
            raise RefusedError("Order amount less than minimum amount allowed")
        if len(str(wanted.get("receipt") or "")) > RECEIPT_CHARS_MAX:
            raise RefusedError("The receipt may not be greater than 40 characters.")
        order = {
            "id": self._id("order"),
            "entity": "order",
            "amount": amount,
            "amount_paid": 0,
            "amount_due": amount,
            "currency": wanted.get("currency", "INR"),
            "receipt": wanted.get("receipt"),
            "status": "created",
            "attempts": 0,
            "notes": wanted.get("notes") or [],
            "created_at": at_s,
        }
        self.orders[order["id"]] = order
        return order

    def pay(self, order_id: str | None, how: Mapping[str, Any], at_s: int) -> Entity:
        """Let a payer pay: `outcome` is captured, authorized, failed, or late: the bank does not say yet.

        Without an order it is a payment of the account that belongs to nothing. `fee` is what the payer bears on
        top of the order, `offer` what is taken off it: such a payment pays the order. `amount` and `currency` may
        be given to make a payment that does not match its order, and leaves it unpaid. Raises RefusedError.
        """
        order = self._known(self.orders, order_id) if order_id is not None else None
        if order is not None and order["status"] == "paid" and not how.get("again"):
            raise RefusedError("This order has been paid.")
        fee, offer = how.get("fee", 0), how.get("offer", 0)
        payment = {
            "id": self._id("pay"),
            "entity": "payment",
            "amount": how.get("amount", order["amount"] + fee - offer if order else 10_000),
            "currency": how.get("currency", order["currency"] if order else "INR"),
            "status": "created",
            "order_id": order_id,
            "method": how.get("method", "upi"),
            "amount_refunded": 0,
            "refund_status": None,
            "captured": False,
            "email": how.get("email", "asha@example.in"),
            "contact": how.get("contact", "+919900000001"),
            "notes": [],
            "offer_id": "offer_standin" if offer else None,
            "fee": fee or None,
            "tax": None,
            "error_code": None,
            "error_description": None,
            "created_at": at_s,
        }
        self.payments[payment["id"]] = payment
        if order is not None:
            order["attempts"] += 1
            order["status"] = "attempted" if order["status"] == "created" else order["status"]
        outcome = how.get("outcome", "captured")
        if outcome == "failed":
            payment["status"] = "failed"
            payment["error_code"] = "BAD_REQUEST_ERROR"
            payment["error_description"] = "Payment was not completed by the payer."
            self._tell("payment.failed", at_s, payment=payment)
        elif outcome != "late":
            self.authorize(payment["id"], at_s)
            if outcome == "captured":
                self.capture(payment["id"], payment["amount"], at_s)
        return payment

    def authorize(self, payment_id: str, at_s: int) -> Entity:
        """Have the bank say yes, be it after it said no: late authorisation is real."""
        payment = self._known(self.payments, payment_id)
        if payment["status"] not in ("created", "failed"):
            raise RefusedError("The payment is not waiting for authorisation.")
        payment.update(status="authorized", error_code=None, error_description=None)
        self._tell("payment.authorized", at_s, payment=payment)
        return payment

    def capture(self, payment_id: str, amount: object, at_s: int) -> Entity:
        """Take the money of an authorised payment. Raises RefusedError."""
        payment = self._known(self.payments, payment_id)
        if payment["captured"]:
            raise RefusedError("This payment has already been captured")
        if payment["status"] != "authorized":
            raise RefusedError(
                "Only payments which have been authorized and not yet captured can be captured"
            )
        if amount != payment["amount"]:
            raise RefusedError("Capture amount must be equal to the amount authorized")
        borne_by_payer = payment["fee"] or 0
        payment.update(status="captured", captured=True, fee=borne_by_payer or payment["amount"] // 50, tax=0)
        self._tell("payment.captured", at_s, payment=payment)
        order = self.orders.get(payment["order_id"] or "")
        if order is not None:
            without_fee = payment["amount"] - borne_by_payer
            if payment["offer_id"] or (without_fee, payment["currency"]) == (
                order["amount"],
                order["currency"],
            ):
                order.update(status="paid", amount_paid=without_fee, amount_due=0)
                self._tell("order.paid", at_s, payment=payment, order=order)
        return payment

    def dispute(self, payment_id: str, amount: object, at_s: int) -> Entity:
        """Have the payer's bank question a captured payment, or an amount of it. Raises RefusedError."""
        payment = self._known(self.payments, payment_id)
        disputed = payment["amount"] if amount is None else amount
        if not payment["captured"] or not isinstance(disputed, int) or not 0 < disputed <= payment["amount"]:
            raise RefusedError("The payment cannot be disputed.")
        dispute = {
            "id": self._id("disp"),
            "entity": "dispute",
            "payment_id": payment_id,
            "amount": disputed,
            "currency": payment["currency"],
            "amount_deducted": 0,
            "reason_code": "chargeback",
            "respond_by": at_s + 7 * 86_400,
            "status": "open",
            "phase": "chargeback",
            "created_at": at_s,
        }
        self.disputes[dispute["id"]] = dispute
        self._tell("payment.dispute.created", at_s, payment=payment, dispute=dispute)
        return dispute

    def move_dispute(self, dispute_id: str, step: str, at_s: int) -> Entity:
        """Let a dispute go on: a key of DISPUTE_ENDS. Raises RefusedError."""
        dispute = self._known(self.disputes, dispute_id)
        if step not in DISPUTE_ENDS:
            raise RefusedError("one of " + ", ".join(DISPUTE_ENDS))
        status = DISPUTE_ENDS[step]
        dispute.update(status=status, amount_deducted=dispute["amount"] if status == "lost" else 0)
        payment = self.payments[dispute["payment_id"]]
        self._tell(
            f"payment.dispute.{status if step == 'reversed' else step}",
            at_s,
            payment=payment,
            dispute=dispute,
        )
        return dispute

    def refund(self, payment_id: str, amount: object, at_s: int) -> Entity:
        """Give a captured payment back, all of it or an amount. Raises RefusedError."""
        payment = self._known(self.payments, payment_id)
        left = payment["amount"] - payment["amount_refunded"]
        back = left if amount is None else amount
        if not payment["captured"] or not isinstance(back, int) or not 0 < back <= left:
            raise RefusedError("The total refund amount is greater than the refund payment amount")
        refund = {
            "id": self._id("rfnd"),
            "entity": "refund",
            "amount": back,
            "currency": payment["currency"],
            "payment_id": payment_id,
            "notes": [],
            "receipt": None,
            "status": "pending",
            "speed_processed": "normal",
            "speed_requested": "normal",
            "created_at": at_s,
        }
        self.refunds[refund["id"]] = refund
        self._refunded(payment, back)
        self._tell("refund.created", at_s, refund=refund, payment=payment)
        return refund

    def end_refund(self, refund_id: str, status: str, at_s: int) -> Entity:
        """Let a pending refund end as processed or failed."""
        refund = self._known(self.refunds, refund_id)
        if refund["status"] != "pending" or status not in ("processed", "failed"):
            raise RefusedError("The refund is not pending.")
        refund["status"] = status
        payment = self.payments[refund["payment_id"]]
        if status == "failed":
            self._refunded(payment, -refund["amount"])
        self._tell(f"refund.{status}", at_s, refund=refund, payment=payment)
        return refund

    def payments_of(self, order_id: str) -> list[Entity]:
        """Return the payments tried on an order. Raises RefusedError."""
        self._known(self.orders, order_id)
        return [payment for payment in self.payments.values() if payment["order_id"] == order_id]

    def one(self, kind: str, entity_id: str) -> Entity:
        """Return an order, payment, refund or dispute. Raises RefusedError."""
        return self._known(self.dump()[kind], entity_id)

    def _refunded(self, payment: Entity, paise: int) -> None:
        payment["amount_refunded"] += paise
        whole = payment["amount_refunded"] == payment["amount"]
        payment["status"] = "refunded" if whole else "captured"
        payment["refund_status"] = "full" if whole else ("partial" if payment["amount_refunded"] else None)

    def _tell(self, event: str, at_s: int, **entities: Entity) -> None:
        """Gather an event with its entities as they are now: a webhook is a snapshot."""
        self.events.append(
            {
                "entity": "event",
                "account_id": "acc_standin",
                "event": event,
                "contains": list(entities),
                "payload": {name: {"entity": dict(entity)} for name, entity in entities.items()},
                "created_at": at_s,
            }
        )

    def _known(self, entities: Mapping[str, Entity], entity_id: str) -> Entity:
        if entity_id not in entities:
            raise RefusedError("The id provided does not exist")
        return entities[entity_id]

    def _id(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers):014d}"
