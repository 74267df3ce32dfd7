"""`POST /webhooks/razorpay`: what Razorpay tells by itself, in any order and any number of times.

Owns: that only Razorpay is believed, and that it hears 2xx only once what it told is durable.
Called by: `api/server/app.py`. Next: `payments/intake.py`.
"""

from __future__ import annotations

import logging

import msgspec
from fastapi import APIRouter, Request, Response

from pipeline import telemetry
from pipeline.api.http.answers import failures, json_answer
from pipeline.api.http.errors import ApiError, invalid, unavailable
from pipeline.api.services.accounts import AccountServices, answered_in_time
from pipeline.api.services.dependencies import AccountsOf
from pipeline.outcomes import RefusalCode
from pipeline.razorpay import entities
from pipeline.razorpay.entities import Webhook
from pipeline.razorpay.signatures import is_webhook_signed

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 4.5
"""Razorpay waits 5 s."""

PAYMENT_EVENTS = frozenset({"payment.captured", "order.paid", "payment.failed"})
REFUND_EVENTS = frozenset({"refund.created", "refund.processed", "refund.failed"})
DISPUTE_EVENT = "payment.dispute."
"""What the events of a dispute start with; the rest is where it stands: `created`, `under_review`, `lost`..."""

router = APIRouter(tags=["webhooks"])


@router.post("/webhooks/razorpay", responses=failures(400))
async def razorpay(request: Request, accounts: AccountsOf) -> Response:
    """Take in a webhook of Razorpay, signed over its raw body in `X-Razorpay-Signature`."""
    if not accounts.webhook_secrets:
        raise unavailable()
    body = await request.body()
    signature = request.headers.get("X-Razorpay-Signature", "")
    if not is_webhook_signed(body, signature, accounts.webhook_secrets):
        telemetry.WEBHOOKS.labels("bad signature").inc()
        raise ApiError(RefusalCode.INVALID_SIGNATURE)
    try:
        async with answered_in_time(ANSWER_LIMIT_S):
            outcome = await _take(accounts, body)
    except ApiError as error:
        telemetry.WEBHOOKS.labels(error.code).inc()
        raise
    telemetry.WEBHOOKS.labels(outcome).inc()
    return json_answer({"status": outcome})


async def _take(accounts: AccountServices, body: bytes) -> str:
    """Do what an event asks for; returns what became of it. Events of other kinds are none of ours."""
    try:
        event = entities.event_of(body)
        if not event.startswith(DISPUTE_EVENT) and event not in PAYMENT_EVENTS | REFUND_EVENTS:
            return "ignored"
        webhook = entities.decode_webhook(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.warning("a signed webhook cannot be read: %s", error)
        raise invalid("body", "the body is not an event of Razorpay") from None
    if event.startswith(DISPUTE_EVENT):
        return await _dispute(accounts, webhook)
    return await (_refund(accounts, webhook) if event in REFUND_EVENTS else _payment(accounts, webhook))


async def _payment(accounts: AccountServices, webhook: Webhook) -> str:
    payment = webhook.payment
    if payment is None:
        raise invalid("body", "the event holds no payment")
    return (await accounts.intake.payment(payment)).status


async def _refund(accounts: AccountServices, webhook: Webhook) -> str:
    refund = webhook.refund
    if refund is None:
        raise invalid("body", "the event holds no refund")
    failed = webhook.event == "refund.failed"
    return f"refund {await accounts.intake.refund(refund, webhook.payment, failed=failed)}"


async def _dispute(accounts: AccountServices, webhook: Webhook) -> str:
    dispute = webhook.dispute
    if dispute is None:
        raise invalid("body", "the event holds no dispute")
    status = webhook.event.removeprefix(DISPUTE_EVENT)
    return f"dispute {await accounts.intake.dispute(dispute, webhook.payment, status=status)}"
