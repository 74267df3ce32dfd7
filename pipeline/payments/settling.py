"""Settle one payment: `metering settle PAYMENT_ID`.

Owns: posting what is missing of a payment by what Razorpay says now: its capture, its refunds, its disputes.
Called by: the operator's endpoint of the server, and `cli/settle.py`. Next: `payments/intake.py`.

It goes the same way as webhooks and under the same ids, so neither comes to anything twice.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.kafka.commands import CommandClient
from pipeline.outcomes import DisputeStatus, RefundStatus
from pipeline.payments.intake import PaymentIntake, PaymentOutcome
from pipeline.payments.order_index import OrderIndex
from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError
from pipeline.razorpay.entities import DisputeEntity
from pipeline.settings import MissingSettingError, Settings


class NotSettledError(Exception):
    """A payment that cannot be settled, for a reason a person can read."""


class Settlement(Struct, frozen=True):
    """What became of a payment, and of its refunds and disputes by their ids."""

    payment_id: str
    status: PaymentOutcome
    refunds: dict[str, RefundStatus | str]
    disputes: dict[str, DisputeStatus | str]


async def settle(intake: PaymentIntake, razorpay: RazorpayClient, payment_id: str) -> Settlement:
    """Post what is missing of a payment. Raises NotSettledError, and what the intake raises."""
    payment = await razorpay.payment(payment_id)
    if payment is None:
        raise NotSettledError(f"Razorpay knows no payment {payment_id}")
    payment = await intake.captured(payment)
    taken = await intake.payment(payment, settled=True)
    if taken.status == "stray":
        raise NotSettledError(f"payment {payment_id} is for none of our orders: see `metering credit`")
    if taken.status == "mismatched":
        raise NotSettledError(f"payment {payment_id} cannot be credited: it is in {payment.currency}")
    refunds = {
        refund.id: await intake.refund(refund, payment) for refund in await razorpay.refunds_of(payment_id)
    }
    disputes = {
        dispute.id: await intake.dispute(dispute, payment)
        for dispute in await disputes_of(razorpay, payment_id, payment.created_at)
    }
    return Settlement(payment_id, taken.status, dict(refunds), dict(disputes))


async def disputes_of(razorpay: RazorpayClient, payment_id: str, paid_s: int) -> list[DisputeEntity]:
    """Return the disputes of a payment that was made at an instant, in seconds; none where they are not shown."""
    try:
        return [d async for d in razorpay.disputes(paid_s) if d.payment_id == payment_id]
    except RazorpayRefusedError:
        return []


async def settle_alone(settings: Settings, client: CommandClient, payment_id: str) -> Settlement:
    """Settle with a connection of its own to Razorpay, beside no server. Raises MissingSettingError without a key."""
    razorpay = razorpay_of(settings)
    try:
        return await settle(PaymentIntake(client, razorpay, OrderIndex()), razorpay, payment_id)
    finally:
        await razorpay.close()


def razorpay_of(settings: Settings) -> RazorpayClient:
    """Return a client with the key of the settings. Raises MissingSettingError where there is none."""
    if not settings.razorpay_key_id or settings.razorpay_key_secret is None:
        raise MissingSettingError("METERING_RAZORPAY_KEY_ID and METERING_RAZORPAY_KEY_SECRET are not set")
    secret = settings.razorpay_key_secret.get_secret_value()
    return RazorpayClient(settings.razorpay_url, settings.razorpay_key_id, secret)
