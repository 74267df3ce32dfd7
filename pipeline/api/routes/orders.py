"""`POST /me/billing/orders` and `POST /me/billing/verify`: a top-up's beginning, and the callback at its end.

Owns: the steps of making an order that is neither lost nor made twice, and of trusting a callback.
Called by: `api/server/app.py`. Next: Razorpay, and `payments/intake.py` for the credit.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from pipeline.accounts.commands import Find, OpenOrder, PrepareOrder, remembered_result
from pipeline.accounts.orders import OPENING, PAISE_PER_RUPEE, RUPEES_MAX, RUPEES_MIN
from pipeline.accounts.results import OrderOpened, PaymentView
from pipeline.api.http.answers import Documented, Rupees, failures, json_answer, rupees
from pipeline.api.http.bodies import ExactRoute, WholeNumber
from pipeline.api.http.errors import ApiError, invalid, not_found, unavailable
from pipeline.api.http.idempotency import IdempotencyKey, command_id, fingerprint
from pipeline.api.http.parameters import only
from pipeline.api.services.accounts import AccountServices, answered_in_time
from pipeline.api.services.dependencies import AccountsOf, ContextOf, OwnerSession
from pipeline.kafka.commands import new_command_id
from pipeline.outcomes import RefusalCode
from pipeline.payments.intake import ORG_NOTE, PROMO_NOTE, PaymentOutcome
from pipeline.razorpay.client import RazorpayClient, RazorpayUnavailableError
from pipeline.razorpay.entities import OrderEntity, PaymentEntity
from pipeline.razorpay.signatures import is_callback_signed

ORDERS_ROUTE, VERIFY_ROUTE = "POST /me/billing/orders", "POST /me/billing/verify"

router = APIRouter(tags=["billing"], route_class=ExactRoute)


class OrderBody(BaseModel):
    """A top-up to pay: whole rupees, and a promo code if there is one."""

    amount_inr: Annotated[WholeNumber, Field(ge=RUPEES_MIN, le=RUPEES_MAX)]
    promo_code: Annotated[str, Field(max_length=100)] | None = None


class OrderAnswer(Documented):
    """What Razorpay's Checkout needs to take the payment."""

    order_id: str
    amount_paise: int
    currency: str
    razorpay_key_id: str


class CallbackBody(BaseModel):
    """What Checkout hands to the page after a payment."""

    razorpay_order_id: Annotated[str, Field(min_length=1, max_length=100)]
    razorpay_payment_id: Annotated[str, Field(min_length=1, max_length=100)]
    razorpay_signature: Annotated[str, Field(min_length=1, max_length=200)]


class CallbackAnswer(Documented):
    """`captured` once the credit is in the balance; `pending` until Razorpay has the money; or `failed`."""

    status: str
    balance_inr: Rupees


@router.post("/me/billing/orders", response_model=OrderAnswer, responses=failures(400, 401, 403, 429))
async def order(
    session: OwnerSession,
    accounts: AccountsOf,
    body: OrderBody,
    context: ContextOf,
    _checked: Annotated[None, Depends(only())],
    key: IdempotencyKey = None,
) -> Response:
    """Order a top-up. Nothing is credited before Razorpay has captured the payment."""
    code = (body.promo_code or "").strip() or None
    wanted = PrepareOrder(
        id=command_id(session.org, ORDERS_ROUTE, key),
        org=session.org,
        amount_paise=body.amount_inr * PAISE_PER_RUPEE,
        promo_code=code,
        nonce=secrets.token_hex(8),
        fingerprint=fingerprint(body.amount_inr, code),
    )
    async with answered_in_time(), accounts.one_at_a_time(wanted.id):
        return json_answer(await _order(accounts, wanted, context.now_ms()))


@router.post("/me/billing/verify", response_model=CallbackAnswer, responses=failures(400, 401, 403, 404, 429))
async def verify(
    session: OwnerSession,
    accounts: AccountsOf,
    body: CallbackBody,
    _checked: Annotated[None, Depends(only())],
    key: IdempotencyKey = None,
) -> Response:
    """Take in Checkout's callback. The webhook alone suffices too; both credit once."""
    async with answered_in_time():
        status, balance_nano = await _verify(accounts, session.org, body, key)
    return json_answer({"status": status, "balance_inr": rupees(balance_nano)})


async def _order(accounts: AccountServices, wanted: PrepareOrder, now_ms: int) -> dict[str, object]:
    razorpay = accounts.razorpay
    if razorpay is None:
        raise unavailable()
    # 1. Book the attempt: everything that could refuse it does so here, before any money moves.
    opening_id = f"{wanted.id}{OPENING}"
    prepared = await (accounts.ask_promo(wanted, now_ms) if wanted.promo_code else accounts.ask(wanted))
    opened: OrderOpened | None = None
    made: OrderEntity | None = None
    receipt = _receipt(wanted.id)
    if prepared.nonce != wanted.nonce:
        # Somebody was here before with the same key: what did they come to?
        found = await accounts.ask(Find(new_command_id(), wanted.org, answered=opening_id))
        opened = remembered_result(OpenOrder, found)
        made = None if opened else await razorpay.find_order(receipt)
    if opened is None:
        # 2. Razorpay makes the order.
        made = made or await _make(razorpay, wanted, prepared.promo_code, receipt)
        # 3. Record it; only then is its id told.
        opened = await accounts.ask(
            OpenOrder(
                id=opening_id,
                org=wanted.org,
                order_id=made.id,
                amount_paise=wanted.amount_paise,
                promo_code=prepared.promo_code,
                bonus_nano=prepared.bonus_nano,
                fingerprint=wanted.fingerprint,
            )
        )
    return {
        "order_id": opened.order_id,
        "amount_paise": opened.amount_paise,
        "currency": opened.currency,
        "razorpay_key_id": razorpay.key_id,
    }


async def _make(
    razorpay: RazorpayClient, wanted: PrepareOrder, promo_code: str | None, receipt: str
) -> OrderEntity:
    """Make an order at Razorpay. After an unclear answer the order is looked for before giving up."""
    notes = {ORG_NOTE: wanted.org, **({PROMO_NOTE: promo_code} if promo_code else {})}
    try:
        made = await razorpay.create_order(wanted.amount_paise, receipt, notes)
    except RazorpayUnavailableError:
        found = await razorpay.find_order(receipt)
        if found is None:
            raise
        made = found
    if made.amount != wanted.amount_paise:
        raise RazorpayUnavailableError(f"order {made.id} is over {made.amount} paise, not what was asked for")
    return made


def _receipt(attempt: str) -> str:
    """Return what marks an attempt's order at Razorpay, 40 characters at most."""
    return f"mt_{hashlib.sha256(attempt.encode()).hexdigest()[:32]}"


async def _verify(
    accounts: AccountServices, org: str, body: CallbackBody, key: str | None
) -> tuple[PaymentOutcome, int]:
    """Return what became of a callback's payment, and the org's balance in nano-rupees."""
    razorpay = accounts.razorpay
    if razorpay is None:
        raise unavailable()
    # 1. The order must be the caller's own, and the signature Razorpay's, over the stored order.
    payment_id = body.razorpay_payment_id
    found = await accounts.ask(
        Find(new_command_id(), org, order_id=body.razorpay_order_id, payment_id=payment_id)
    )
    order = found.order
    if order is None:
        raise not_found("the org has no such order")
    signature = body.razorpay_signature
    if not is_callback_signed(order.order_id, payment_id, signature, razorpay.key_secret):
        raise ApiError(RefusalCode.INVALID_SIGNATURE, param="razorpay_signature")
    # 2. The signature shows that the payer authorised; whether the money came, Razorpay tells.
    payment = _credited(found.payment) or await razorpay.payment(payment_id)
    if payment is None or payment.order_id != order.order_id:
        raise not_found("the order has no such payment")
    payment = await accounts.intake.captured(payment)
    # 3. Credit it, unless the webhook was faster.
    taken = await accounts.intake.payment(
        payment,
        command_id=command_id(org, VERIFY_ROUTE, key),
        fingerprint=fingerprint(order.order_id, payment_id, signature) if key is not None else "",
    )
    if taken.status == "mismatched":
        raise invalid(
            "razorpay_payment_id", "the payment does not match its order; it is kept to be looked at"
        )
    return taken.status, found.balance_nano if taken.balance_nano is None else taken.balance_nano


def _credited(payment: PaymentView | None) -> PaymentEntity | None:
    """Return a payment that was credited before as Razorpay told it then: no need to ask again."""
    if payment is None or payment.status != "captured":
        return None
    return PaymentEntity(
        id=payment.payment_id,
        amount=payment.amount_paise,
        currency=payment.currency,
        status="captured",
        order_id=payment.order_id,
        created_at=payment.paid_ms // 1000,
    )
