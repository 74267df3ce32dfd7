"""`GET /me/billing/receipts/{payment_id}`: the receipt of a captured payment.

Owns: what a receipt holds, and whether JSON or the printable page is wanted.
Called by: `api/server/main.py` adds the route. Next: `api/pages/receipt.py` writes the page.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Struct, structs
from starlette.responses import HTMLResponse

from pipeline.accounts.commands import Find
from pipeline.accounts.model import Address
from pipeline.api.http.answers import (
    PRIVATE,
    Documented,
    Moment,
    Rupees,
    failures,
    json_answer,
    moment,
    rupees,
)
from pipeline.api.http.errors import not_found
from pipeline.api.http.parameters import only
from pipeline.api.http.sessions import SignedIn
from pipeline.api.pages.receipt import POLICY, render
from pipeline.api.services.billing import Money, answered_in_time
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


class ReceiptAnswer(Documented):
    """A payment receipt. It is no GST tax invoice."""

    payment_id: str
    order_id: str
    amount_inr: Rupees
    payer: dict[str, str]
    address: dict[str, str | None] | None
    method: str
    paid_at: Moment


def router(money: Money) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["billing"])

    @routes.get(
        "/me/billing/receipts/{payment_id}",
        response_model=ReceiptAnswer,
        responses=failures(401, 404),
    )
    async def receipt(
        session: SignedIn, request: Request, payment_id: str, _checked: Annotated[None, Depends(only())]
    ) -> Response:
        """The receipt of a captured payment; with `Accept: text/html` as a page to print."""
        async with answered_in_time():
            found = await receipt_of(money.client, session.org, payment_id)
        if found is None:
            raise not_found("the org has no such payment")
        if wants_page(request.headers.get("Accept", "")):
            headers = {"Cache-Control": PRIVATE, "Content-Security-Policy": POLICY}
            return HTMLResponse(render(found), headers=headers)
        return json_answer(
            {
                "payment_id": found.payment_id,
                "order_id": found.order_id,
                "amount_inr": rupees(found.amount_nano),
                "payer": found.payer,
                "address": structs.asdict(found.address) if found.address else None,
                "method": found.method,
                "paid_at": moment(found.paid_at_ms),
            }
        )

    return routes


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


def wants_page(accept: str) -> bool:
    """Whether an Accept header asks for HTML before JSON."""
    ranges = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if "text/html" not in ranges:
        return False
    return "application/json" not in ranges or ranges.index("text/html") < ranges.index("application/json")
