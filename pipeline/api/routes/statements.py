"""`GET /me/statements` and `/me/statements/{month}`: an org's months by time of posting, as JSON, CSV or a page to print.

Called by: `api/server/app.py`. Next: `api/services/history.py` reads the rows, `api/pages/statement.py` makes page and file.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.responses import HTMLResponse

from pipeline.api.http.answers import (
    PRIVATE,
    Count,
    DayText,
    Documented,
    Moment,
    Rupees,
    attachment,
    failures,
    json_answer,
    moment,
    preferred_type,
    rupees,
)
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import only
from pipeline.api.pages.statement import POLICY, csv_of, render
from pipeline.api.routes.billing import EntryShown, shown_entry
from pipeline.api.services.dependencies import HistoryOf, SignedIn
from pipeline.statements import Statement, StatementLine, month_of, text_of

router = APIRouter(tags=["statements"], dependencies=[Depends(only())])

JSON, CSV, PAGE = "application/json", "text/csv", "text/html"


class MonthAnswer(Documented):
    """A month: opening + credits - debits = closing, exactly. An open month ends now; a closed one never changes."""

    month: str
    opening_inr: Rupees
    credits_inr: Rupees
    debits_inr: Rupees
    closing_inr: Rupees
    closed: bool


class StatementsAnswer(Documented):
    """The months of an org, newest first."""

    statements: list[MonthAnswer]


class DebitAnswer(Documented):
    """What requests of one IST day, model, key and provider cost that were charged in the month."""

    day: DayText
    model: str
    key_id: str
    provider: str | None
    requests: Count
    tokens: Count
    cost_inr: Rupees


class StatementAnswer(MonthAnswer):
    """A month with each of its ledger entries and its debits; `through` is the last instant that it tells of."""

    through: Moment
    entries: list[EntryShown]
    debits: list[DebitAnswer]


@router.get("/me/statements", response_model=StatementsAnswer, responses=failures(401))
async def statements(session: SignedIn, history: HistoryOf) -> Response:
    """The months from the first posting on, newest first."""
    lines = await history.lines(session.scope)
    return json_answer({"statements": [_shown(line) for line in lines]})


@router.get(
    "/me/statements/{month}",
    response_model=StatementAnswer,
    responses={200: {"content": {CSV: {}, PAGE: {}}}, **failures(400, 401, 404)},
)
async def statement(
    session: SignedIn,
    history: HistoryOf,
    request: Request,
    month: Annotated[str, Path(description="YYYY-MM, by IST")],
) -> Response:
    """A month; with `Accept: text/csv` as a file, with `Accept: text/html` as a page to print."""
    number = month_of(month)
    if number is None:
        raise invalid("month", f"{month} is no month: write it as 2026-10")
    found = await history.statement(session.scope, number)
    wanted = preferred_type(request.headers.get("Accept", ""), (JSON, CSV, PAGE))
    headers = {"Cache-Control": PRIVATE, "Vary": "Accept"}
    if wanted == CSV:
        headers["Content-Disposition"] = attachment(f"statement_{session.org}_{month}.csv")
        return Response(csv_of(found), media_type="text/csv; charset=utf-8", headers=headers)
    if wanted == PAGE:
        return HTMLResponse(render(found), headers={**headers, "Content-Security-Policy": POLICY})
    answer = json_answer(_whole(found))
    answer.headers["Vary"] = "Accept"
    return answer


def _shown(line: StatementLine) -> dict[str, object]:
    return {
        "month": text_of(line.month),
        "opening_inr": rupees(line.opening_nano),
        "credits_inr": rupees(line.credits_nano),
        "debits_inr": rupees(line.debits_nano),
        "closing_inr": rupees(line.closing_nano),
        "closed": line.closed,
    }


def _whole(found: Statement) -> dict[str, object]:
    return {
        **_shown(found.line),
        "through": moment(found.through_ms),
        "entries": [shown_entry(entry) for entry in found.entries],
        "debits": [
            {
                "day": debit.day,
                "model": debit.model,
                "key_id": debit.key_id,
                "provider": debit.provider or None,
                "requests": debit.requests,
                "tokens": debit.tokens,
                "cost_inr": rupees(debit.cost_nano),
            }
            for debit in found.debits
        ],
    }
