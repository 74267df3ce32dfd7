"""`GET /me/balance`: what the balance was at any past instant.

Called by: `api/server/app.py`. Next: `api/services/history.py`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pipeline.api.http.answers import Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import only
from pipeline.api.services.dependencies import ContextOf, HistoryOf, SignedIn
from pipeline.events import Timestamps

router = APIRouter(tags=["billing"])

_timestamps = Timestamps()


class BalanceAnswer(Documented):
    """The balance right after everything that was posted up to `at`."""

    at: Moment
    balance_inr: Rupees


@router.get(
    "/me/balance",
    response_model=BalanceAnswer,
    responses=failures(400, 401, 404),
    dependencies=[Depends(only("at"))],
)
async def balance(
    session: SignedIn,
    context: ContextOf,
    history: HistoryOf,
    at: Annotated[str, Query(description="A past instant, RFC 3339 with any offset; cut to the millisecond")],
) -> Response:
    """The balance at an instant, by the time of posting; 0 before the first posting."""
    # In an address a plus sign that is not escaped stands for a space.
    at_ms = _timestamps.ms(at.replace(" ", "+"))
    if at_ms is None or at_ms < 0:
        raise invalid("at", "at is no time after 1970: write it as 2026-06-12T18:29:59+05:30")
    if at_ms > context.now_ms():
        raise invalid("at", "at lies in the future")
    return json_answer(
        {"at": moment(at_ms), "balance_inr": rupees(await history.balance_nano(session.scope, at_ms))}
    )
