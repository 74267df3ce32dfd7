"""`GET /me/statements/{month}/proof` and `GET /v1/checkpoints`: what anyone can check a statement with.

Called by: `api/server/app.py`. Next: `api/services/proving.py`, `api/services/checkpoints.py`; docs/statements.md has the format.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from pipeline.api.http.answers import (
    PRIVATE,
    DayText,
    Documented,
    attachment,
    failures,
    json_answer,
)
from pipeline.api.http.errors import invalid
from pipeline.api.http.parameters import only
from pipeline.api.routes.csv_files import ExportsOf, FileAnswer
from pipeline.api.services.dependencies import ContextOf, HistoryOf, SignedIn
from pipeline.api.services.exports import Exports
from pipeline.api.services.proving import Proving
from pipeline.clickhouse.queries import OrgScope
from pipeline.statements import month_of

router = APIRouter(tags=["statements"])

NDJSON = "application/x-ndjson"
PUBLIC = "public, max-age=60"


class HandoverAnswer(Documented):
    """The change from one key to the next, signed by both; from `day` on the new one signs."""

    deployment: str
    day: DayText
    old_key: str
    new_key: str
    old_signature: str
    new_signature: str


class CheckpointAnswer(Documented):
    """What a closed IST day's books were: the root over all orgs, signed, and chained to the checkpoint before."""

    kind: str
    deployment: str
    day: DayText
    root: str
    previous: str
    key: str
    handover: HandoverAnswer | None
    signature: str


class CheckpointsAnswer(Documented):
    """All checkpoints, oldest first, and the public key (Ed25519, hex) that signed the newest; null before the first."""

    public_key: str | None
    checkpoints: list[CheckpointAnswer]


@router.get("/v1/checkpoints", response_model=CheckpointsAnswer, responses=failures(400))
async def checkpoints(context: ContextOf, _checked: Annotated[None, Depends(only())]) -> Response:
    """The signed checkpoints of all closed days. No session."""
    book = context.checkpoints
    return json_answer({"public_key": book.public_key, "checkpoints": book.checkpoints}, PUBLIC)


@router.get(
    "/me/statements/{month}/proof",
    response_class=Response,
    responses={
        200: {"content": {NDJSON: {}}, "description": "The file"},
        **failures(400, 401, 404, 429),
    },
)
async def proof(
    session: SignedIn,
    history: HistoryOf,
    request: Request,
    exports: ExportsOf,
    month: Annotated[str, Path(description="YYYY-MM, by IST")],
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """A month's proof: every row, the path to each signed day, and the checkpoints; one file of an org at a time."""
    number = month_of(month)
    if number is None:
        raise invalid("month", f"{month} is no month: write it as 2026-10")
    context = request.app.state.context
    deployment = context.settings.deployment if context.settings else "metering"
    proving = Proving(history, context.rates, context.checkpoints, exports, deployment)
    lines = _one_of(exports, session.scope, proving, number)
    first = await anext(lines)
    headers = {
        "Cache-Control": PRIVATE,
        "Content-Disposition": attachment(f"proof_{session.org}_{month}.ndjson"),
    }
    return FileAnswer(first, lines, headers, NDJSON)


async def _one_of(exports: Exports, scope: OrgScope, proving: Proving, month: int) -> AsyncGenerator[bytes]:
    with exports.one_of(scope.org):
        async for piece in proving.pieces(scope, month):
            yield piece
