"""`GET /me/billing/pin/{pin}`: the city and state of a PIN code, to fill in an address.

Called by: `api/server/app.py`. Next: `pipeline/pincodes.py`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from pipeline.api.http.answers import Documented, failures, json_answer
from pipeline.api.http.errors import invalid, not_found
from pipeline.api.http.parameters import only
from pipeline.api.services.dependencies import signed_in
from pipeline.pincodes import PinFormatError, lookup

router = APIRouter(tags=["billing"], dependencies=[Depends(signed_in)])


class PinAnswer(Documented):
    """Where a PIN code is; `city` is the district, a suggestion that may be corrected."""

    pin: str
    city: str
    state: str


# A plain function: FastAPI runs it in a thread, so reading the data at the first call holds nobody up.
@router.get("/me/billing/pin/{pin}", response_model=PinAnswer, responses=failures(400, 401, 404))
def pin_code(pin: str, _checked: Annotated[None, Depends(only())]) -> Response:
    """The city and state of a six-digit PIN code."""
    try:
        place = lookup(pin)
    except PinFormatError as error:
        raise invalid("pin", str(error)) from None
    if place is None:
        raise not_found("nobody knows this PIN code; fill in city and state by hand")
    return json_answer({"pin": place.pin, "city": place.city, "state": place.state})
