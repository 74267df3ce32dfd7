"""`GET /me/billing/receipts/{payment_id}`: the receipt of a captured payment.

Owns: whether JSON or the printable page is wanted.
Called by: `api/server/app.py`. Next: `api/pages/receipt.py` writes the page.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import HTMLResponse

from pipeline.api.http.answers import (
    PRIVATE,
    Documented,
    Moment,
    Rupees,
    failures,
    json_answer,
    moment,
    preferred_type,
    rupees,
)
from pipeline.api.http.errors import not_found
from pipeline.api.http.parameters import only
from pipeline.api.pages.receipt import POLICY, render
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import AccountsOf, SignedIn
from pipeline.payments.receipts import receipt_of

router = APIRouter(tags=["billing"])

JSON, PAGE = "application/json", "text/html"


class ReceiptAnswer(Documented):
    """A payment receipt. It is no GST tax invoice.

    `amount_inr` was paid, `credited_inr` credited. `refunded_inr` and `disputed_inr` went back to the payer since;
    `in_dispute_inr` is what disputes that are not decided may take back.
    """

    payment_id: str
    order_id: str
    amount_inr: Rupees
    credited_inr: Rupees
    refunded_inr: Rupees
    disputed_inr: Rupees
    in_dispute_inr: Rupees
    payer: dict[str, str]
    address: dict[str, str | None] | None
    method: str
    paid_at: Moment


@router.get(
    "/me/billing/receipts/{payment_id}",
    response_model=ReceiptAnswer,
    responses=failures(401, 404),
)
async def receipt(
    session: SignedIn,
    accounts: AccountsOf,
    request: Request,
    payment_id: str,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """The receipt of a captured payment; with `Accept: text/html` as a page to print."""
    async with answered_in_time():
        found = await receipt_of(accounts.client, session.org, payment_id)
    if found is None:
        raise not_found("the org has no such payment")
    if preferred_type(request.headers.get("Accept", ""), (JSON, PAGE)) == PAGE:
        headers = {"Cache-Control": PRIVATE, "Content-Security-Policy": POLICY}
        return HTMLResponse(render(found), headers=headers)
    return json_answer(
        {
            "payment_id": found.payment_id,
            "order_id": found.order_id,
            "amount_inr": rupees(found.amount_nano),
            "credited_inr": rupees(found.credited_nano),
            "refunded_inr": rupees(found.refunded_nano),
            "disputed_inr": rupees(found.disputed_nano),
            "in_dispute_inr": rupees(found.in_dispute_nano),
            "payer": found.payer,
            "address": found.address,
            "method": found.method,
            "paid_at": moment(found.paid_at_ms),
        }
    )
