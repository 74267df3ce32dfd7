"""What Razorpay tells: orders, payments, refunds, disputes and webhooks, as far as they matter here.

Owns: decoding them from bytes. Fields that are not named here are ignored; amounts are paise.
Called by: `razorpay/client.py`, `api/routes/webhooks.py`, `operations/`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

TEXT_MAX = 256


class PaymentEntity(Struct, frozen=True):
    """A payment. `created_at` is in seconds."""

    id: str
    amount: int
    currency: str
    status: str
    order_id: str | None = None
    captured: Any = None
    method: str | None = None
    email: str | None = None
    contact: str | int | None = None
    created_at: int = 0
    amount_refunded: int | None = 0

    @property
    def is_captured(self) -> bool:
        """Whether the money came in. A refund gives it back later; an uncaptured payment is refunded too."""
        return self.status == "captured" or (self.status == "refunded" and bool(self.captured))

    @property
    def is_refunded(self) -> bool:
        """Whether all of it went back to the payer by refunds."""
        return self.amount > 0 and (self.amount_refunded or 0) >= self.amount


class OrderEntity(Struct, frozen=True):
    """An order. Empty notes come as an empty array.

    `status` becomes `paid` once a captured payment settles it. The payment's amount need not be the order's: it is
    above it where the payer bears the fee, and below it by an offer.
    """

    id: str
    amount: int
    currency: str = "INR"
    status: str = ""
    receipt: str | None = None
    notes: Any = None
    created_at: int = 0

    def note(self, name: str) -> str | None:
        """Return one of the notes that this side put on the order."""
        value = self.notes.get(name) if isinstance(self.notes, dict) else None
        return value if isinstance(value, str) and value else None


class RefundEntity(Struct, frozen=True):
    """A refund of a payment."""

    id: str
    payment_id: str
    amount: int
    currency: str = "INR"
    status: str = ""


class DisputeEntity(Struct, frozen=True):
    """A dispute of a payment. `amount_deducted` is what was taken back: 0 unless the dispute is lost."""

    id: str
    payment_id: str
    amount: int
    currency: str = "INR"
    status: str = ""
    amount_deducted: int | None = None
    created_at: int = 0


class _Payment(Struct, frozen=True):
    entity: PaymentEntity


class _Order(Struct, frozen=True):
    entity: OrderEntity


class _Refund(Struct, frozen=True):
    entity: RefundEntity


class _Dispute(Struct, frozen=True):
    entity: DisputeEntity


class _Payload(Struct, frozen=True):
    payment: _Payment | None = None
    order: _Order | None = None
    refund: _Refund | None = None
    dispute: _Dispute | None = None


class Webhook(Struct, frozen=True):
    """An event that Razorpay tells of, with the entities it is about as they were then."""

    event: str
    payload: _Payload = field(default_factory=_Payload)

    @property
    def payment(self) -> PaymentEntity | None:
        """The payment it is about."""
        return self.payload.payment.entity if self.payload.payment else None

    @property
    def refund(self) -> RefundEntity | None:
        """The refund it is about."""
        return self.payload.refund.entity if self.payload.refund else None

    @property
    def dispute(self) -> DisputeEntity | None:
        """The dispute it is about."""
        return self.payload.dispute.entity if self.payload.dispute else None


class Named(Struct, frozen=True):
    """Any entity, as far as its id goes."""

    id: str


class Collection(Struct, frozen=True):
    """A page of entities."""

    items: list[msgspec.Raw]


class _Event(Struct, frozen=True):
    event: str


decode_payment = msgspec.json.Decoder(PaymentEntity).decode
decode_order = msgspec.json.Decoder(OrderEntity).decode
decode_refund = msgspec.json.Decoder(RefundEntity).decode
decode_dispute = msgspec.json.Decoder(DisputeEntity).decode
decode_named = msgspec.json.Decoder(Named).decode
decode_collection = msgspec.json.Decoder(Collection).decode
decode_webhook = msgspec.json.Decoder(Webhook).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def event_of(body: bytes) -> str:
    """Return which event a webhook tells of, whatever its payload. Raises msgspec.MsgspecError."""
    return _decode_event(body).event


def bounded(text: str | int | None) -> str:
    """Return a text of Razorpay's cut to what a command may carry."""
    return str(text or "")[:TEXT_MAX]
