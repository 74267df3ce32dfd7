"""The small records of money coming in: orders, payments and refunds, each kept by its own id.

Owns: their shapes, how they are kept in the state topic, and the notice of an order on `metering.orders`,
which the servers read.
Called by: the deciding in `accounts/`; `posting/state.py` keeps them.

They are records of their own, so that an account stays small however often it is topped up, and a
message that is replayed years later still finds what it is about.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pipeline.accounts.model import Address
from pipeline.accounts.promos import Promo
from pipeline.outcomes import PaymentStatus, RefundStatus

INR = "INR"


class Order(Struct, array_like=True, frozen=True, gc=False):
    """An order that Razorpay made for an org. `bonus_nano` is what its promo code promised.

    `paid_by` is the payment that it was first credited for, and settles the promo code either way.
    """

    order_id: str
    org: str
    amount_paise: int
    created_ms: int
    promo_code: str | None = None
    bonus_nano: int = 0
    paid_by: str | None = None


class Payment(Struct, array_like=True, frozen=True, gc=False):
    """A payment that Razorpay reported, and what became of it here.

    Only a `captured` one was credited; `problem` says why a `mismatched` one was not. Payer and address
    are as they were when it was captured, for its receipt.
    """

    payment_id: str
    order_id: str
    org: str
    status: PaymentStatus
    amount_paise: int
    currency: str
    method: str
    email: str
    contact: str
    paid_ms: int
    payer: str = ""
    address: Address | None = None
    refunded_paise: int = 0
    problem: str = ""


class Refund(Struct, array_like=True, frozen=True, gc=False):
    """A refund that Razorpay reported: debited, failed (and reversed if it had been debited), or ignored."""

    refund_id: str
    payment_id: str
    org: str
    status: RefundStatus
    amount_paise: int
    problem: str = ""


class Stray(Struct, array_like=True, frozen=True, gc=False):
    """A payment of the Razorpay account that is none of this product's orders."""

    payment_id: str
    order_id: str
    amount_paise: int
    currency: str


MoneyRecord = Order | Payment | Refund | Stray


class Known(Struct, frozen=True):
    """What is known, beside the account, of the things a command names."""

    order: Order | None = None
    payment: Payment | None = None
    refund: Refund | None = None
    promo: Promo | None = None


NOTHING = Known()


class OrderNotice(Struct, frozen=True):
    """An order's record on `metering.orders`: its org, and the payment that paid it, None before one has."""

    order_id: str
    org: str
    created_ms: int
    paid_by: str | None = None


encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_payment = msgspec.msgpack.Decoder(Payment).decode
decode_refund = msgspec.msgpack.Decoder(Refund).decode
decode_stray = msgspec.msgpack.Decoder(Stray).decode

_encode_order_notice = msgspec.json.Encoder().encode
decode_order_notice = msgspec.json.Decoder(OrderNotice).decode


def encode_order_notice(order: Order) -> tuple[bytes, bytes]:
    """Return the key and value of an order's record on `metering.orders`."""
    notice = OrderNotice(order.order_id, order.org, order.created_ms, order.paid_by)
    return order.order_id.encode(), _encode_order_notice(notice)
