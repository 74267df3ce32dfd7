"""The small records of money coming in and going back: orders, payments, refunds, disputes, each kept by its own id.

Owns: their shapes, how they are kept in the state topic, and the notice of an order on `metering.orders`,
which the servers read.
Called by: the deciding in `accounts/`; `posting/state.py` keeps them.

They are records of their own, so that an account stays small however often it is topped up, and a
message that is replayed years later still finds what it is about.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pipeline.accounts.model import Address, RememberedAnswer
from pipeline.accounts.notices import Told
from pipeline.accounts.promos import Promo
from pipeline.formats import ORDERS
from pipeline.outcomes import DisputeStatus, PaymentStatus, RefundStatus

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

    `credited_paise` is what was credited for it, 0 where that is `amount_paise`. `refunded_paise` and
    `disputed_paise` are what went back to the payer by refunds and lost disputes, `corrected_paise` what an
    operator's corrections took off the balance for some of these refunds. `open_disputes` are the disputed paise
    by the dispute's id.
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
    credited_paise: int = 0
    disputed_paise: int = 0
    corrected_paise: int = 0
    open_disputes: dict[str, int] = {}


class Refund(Struct, array_like=True, frozen=True, gc=False):
    """A refund that Razorpay reported: debited, failed (and reversed if it had been debited), or ignored.

    A `corrected` one was named by an operator's correction; it has no `payment_id` until Razorpay tells of it.
    """

    refund_id: str
    payment_id: str
    org: str
    status: RefundStatus
    amount_paise: int
    problem: str = ""


class Dispute(Struct, array_like=True, frozen=True, gc=False):
    """A dispute of a payment: the payer's bank questions it, and may take the money back.

    `deducted_paise` is what Razorpay says it took, `counted_paise` what of it counts against the payment here:
    all of it while the dispute is lost, nothing while `problem` says why not.
    """

    dispute_id: str
    payment_id: str
    org: str
    status: DisputeStatus
    amount_paise: int
    deducted_paise: int = 0
    counted_paise: int = 0
    problem: str = ""


class NamedCredit(Struct, array_like=True, frozen=True, gc=False):
    """An operator's credit that came with an idempotency key, kept for ever: the key's second use does nothing.

    `fingerprint` tells what was asked for, `balance_nano` is what was answered.
    """

    command_id: str
    org: str
    fingerprint: str
    balance_nano: int


class Stray(Struct, array_like=True, frozen=True, gc=False):
    """A payment of the Razorpay account that is none of this product's orders."""

    payment_id: str
    order_id: str
    amount_paise: int
    currency: str


MoneyRecord = Order | Payment | Refund | Dispute | NamedCredit | Stray


class Known(Struct, frozen=True):
    """What is known, beside the account, of the things a command names."""

    order: Order | None = None
    payment: Payment | None = None
    refund: Refund | None = None
    promo: Promo | None = None
    dispute: Dispute | None = None
    credit: NamedCredit | None = None
    answer: RememberedAnswer | None = None
    next_id: int = 0
    """The id that the next row of the journal takes."""
    told: Told = Told()
    """What the org was told already."""


NOTHING = Known()


class OrderNotice(Struct, frozen=True, tag_field="format", tag=ORDERS.number):
    """An order's record on `metering.orders`: its org, and the payment that paid it, None before one has.

    `amount_paise` is 0 in records of earlier releases.
    """

    order_id: str
    org: str
    created_ms: int
    paid_by: str | None = None
    amount_paise: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_payment = msgspec.msgpack.Decoder(Payment).decode
decode_refund = msgspec.msgpack.Decoder(Refund).decode
decode_dispute = msgspec.msgpack.Decoder(Dispute).decode
decode_named_credit = msgspec.msgpack.Decoder(NamedCredit).decode
decode_stray = msgspec.msgpack.Decoder(Stray).decode

_encode_order_notice = msgspec.json.Encoder().encode
decode_order_notice = ORDERS.decoder(OrderNotice)


def encode_order_notice(order: Order) -> tuple[bytes, bytes]:
    """Return the key and value of an order's record on `metering.orders`."""
    notice = OrderNotice(order.order_id, order.org, order.created_ms, order.paid_by, order.amount_paise)
    return order.order_id.encode(), _encode_order_notice(notice)
