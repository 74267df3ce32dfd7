"""`PUT /me/billing/address` and `PUT /me/billing/threshold`.

Called by: `api/server/app.py`. Next: the account's owner decides, `accounts/addresses.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from pipeline.accounts.addresses import is_pin
from pipeline.accounts.commands import SetAddress, SetThreshold
from pipeline.api.http.answers import Documented, Rupees, failures, json_answer, rupees
from pipeline.api.http.bodies import ExactRoute, RupeesGiven
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import only
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import AccountsOf, OwnerSession
from pipeline.kafka.commands import new_command_id
from pipeline.money import AmountError, parse_inr
from pipeline.pincodes import lookup

Line = Annotated[str, Field(max_length=200)]

router = APIRouter(tags=["billing"], route_class=ExactRoute)


class AddressBody(BaseModel):
    """A billing address. City and state may be left out: then the PIN code fills them in."""

    name: Line
    line1: Line
    line2: Line | None = None
    city: Line | None = None
    state: Line | None = None
    pin: Annotated[str, Field(max_length=20)]
    gstin: Line | None = None


class AddressAnswer(Documented):
    """The address as it is now."""

    address: dict[str, str | None]


class ThresholdBody(BaseModel):
    """The balance in rupees below which the org gets a mail; null turns that off."""

    threshold_inr: RupeesGiven | None


class ThresholdAnswer(Documented):
    """The threshold as it is now."""

    threshold_inr: Rupees | None


@router.put("/me/billing/address", response_model=AddressAnswer, responses=failures(400, 401, 403))
async def set_address(
    session: OwnerSession, accounts: AccountsOf, body: AddressBody, _checked: Annotated[None, Depends(only())]
) -> Response:
    """Set the billing address, which the first top-up needs and receipts show."""
    city, state = _filled_in(body)
    command = SetAddress(
        id=new_command_id(),
        org=session.org,
        name=body.name,
        line1=body.line1,
        line2=body.line2,
        city=city,
        state=state,
        pin=body.pin,
        gstin=body.gstin,
    )
    async with answered_in_time():
        result = await accounts.ask(command)
    return json_answer(result)


@router.put("/me/billing/threshold", response_model=ThresholdAnswer, responses=failures(400, 401, 403))
async def set_threshold(
    session: OwnerSession,
    accounts: AccountsOf,
    body: ThresholdBody,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """Set or clear the balance below which the org gets a mail, at most one in 24 hours."""
    threshold_nano = _threshold_nano(body.threshold_inr)
    async with answered_in_time():
        await accounts.ask(SetThreshold(new_command_id(), session.org, threshold_nano))
    return json_answer({"threshold_inr": None if threshold_nano is None else rupees(threshold_nano)})


def _filled_in(body: AddressBody) -> tuple[str, str]:
    city, state = (body.city or "").strip(), (body.state or "").strip()
    pin = body.pin.strip()
    if (not city or not state) and is_pin(pin):
        place = lookup(pin)
        if place is not None:
            city, state = city or place.city, state or place.state
    return city, state


def _threshold_nano(threshold_inr: Decimal | None) -> int | None:
    if threshold_inr is None:
        return None
    try:
        threshold_nano = parse_inr(threshold_inr, decimals=2)
    except AmountError as error:
        raise invalid("threshold_inr", str(error)) from None
    if threshold_nano < 0:
        raise invalid("threshold_inr", "the threshold cannot be below zero")
    return threshold_nano
