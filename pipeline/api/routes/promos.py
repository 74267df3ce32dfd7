"""`POST /me/billing/promo/check`: what a promo code is worth, before paying.

Called by: `api/server/app.py`. Next: the account's owner decides, `accounts/orders.py`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from pipeline.accounts.commands import CheckPromo
from pipeline.api.http.answers import Documented, Rupees, failures, json_answer, rupees
from pipeline.api.http.bodies import ExactRoute
from pipeline.api.http.parameters import only
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import AccountsOf, ContextOf, OwnerSession
from pipeline.kafka.commands import new_command_id

router = APIRouter(tags=["billing"], route_class=ExactRoute)


class PromoBody(BaseModel):
    """A promo code, in any case."""

    code: Annotated[str, Field(min_length=1, max_length=100)]


class PromoAnswer(Documented):
    """A good promo code, and the bonus it adds to a top-up."""

    code: str
    bonus_inr: Rupees


@router.post("/me/billing/promo/check", response_model=PromoAnswer, responses=failures(400, 401, 403, 429))
async def check(
    session: OwnerSession,
    accounts: AccountsOf,
    body: PromoBody,
    context: ContextOf,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """The bonus of a promo code. It is redeemed when a payment with it is captured, once an org."""
    async with answered_in_time():
        command = CheckPromo(new_command_id(), session.org, body.code)
        found = await accounts.ask_promo(command, context.now_ms())
    return json_answer({"code": found.code, "bonus_inr": rupees(found.bonus_nano)})
