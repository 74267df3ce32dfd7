"""What only the operator may ask of a running server, with the operator's token.

Owns: `POST /operator/queries/{name}`, `/operator/reconcile` and `/operator/rebuild/...`, which the commands use where the embedded
engine is this process's, and `POST /operator/settle/{payment_id}`, as it is this process that has Razorpay's key.
Called by: `api/server/app.py`; `cli/engine_work.py` asks it over HTTP. Next: `operations/verify.py`, `payments/reconcile.py`, `payments/settling.py`.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable
from datetime import date
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from pipeline.api.http.errors import ApiError
from pipeline.api.services.accounts import answered_in_time
from pipeline.api.services.dependencies import AccountsOf, ContextOf
from pipeline.clickhouse.client import EngineError, EngineUnavailable
from pipeline.clickhouse.queries import queries
from pipeline.formats import NewerFormatError
from pipeline.identity import MixedHistoriesError
from pipeline.operations.verify import asking
from pipeline.outcomes import RefusalCode
from pipeline.payments.reconcile import reconcile
from pipeline.payments.settling import NotSettledError, settle
from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError
from pipeline.settings import MissingSettingError, Settings
from pipeline.sink import rebuild
from pipeline.sink.rebuild import Rebuild, Rebuilt

SETTLE_LIMIT_S = 60.0
TOKEN_HEADER = "X-Operator-Token"  # noqa: S105 - the header's name, not a token

ASKED_BY_COMMANDS = frozenset(
    each.name
    for each in queries()
    if each.name.startswith(("status_", "verify_", "whatif_")) and each.scope == "platform"
)
"""The queries that may be asked for by name: they only read, and are about no org in particular."""

router = APIRouter(include_in_schema=False)


async def operators_settings(request: Request, context: ContextOf) -> Settings:
    """Return the settings to run with. Raises ApiError 404 unless the operator's token is set and given."""
    settings = context.settings
    secret = settings.operator_token.get_secret_value() if settings and settings.operator_token else ""
    given = request.headers.get(TOKEN_HEADER, "")
    if settings is None or not secret or not hmac.compare_digest(given.encode(), secret.encode()):
        raise ApiError(RefusalCode.NOT_FOUND, "no such endpoint")
    return settings


OperatorsSettings = Annotated[Settings, Depends(operators_settings)]


@router.post("/operator/reconcile")
async def reconcile_payments(
    settings: OperatorsSettings,
    context: ContextOf,
    *,
    full: bool = False,
) -> Response:
    """Compare Razorpay's payments, the ledger and the receipts; the report."""
    try:
        report = await reconcile(settings, context.database, full=full)
    except (MissingSettingError, NewerFormatError, RazorpayRefusedError, RazorpayUnavailableError) as error:
        raise ApiError(RefusalCode.UNAVAILABLE, str(error)) from None
    return Response(msgspec.json.encode(report), media_type="application/json")


@router.post("/operator/settle/{payment_id}")
async def settle_payment(_settings: OperatorsSettings, accounts: AccountsOf, payment_id: str) -> Response:
    """Post what is missing of a payment by what Razorpay says now; what became of it."""
    if accounts.razorpay is None:
        raise ApiError(RefusalCode.UNAVAILABLE, "no Razorpay key is set")
    try:
        async with answered_in_time(SETTLE_LIMIT_S):
            settlement = await settle(accounts.intake, accounts.razorpay, payment_id)
    except NotSettledError as error:
        raise ApiError(RefusalCode.INVALID_REQUEST, str(error)) from None
    return Response(msgspec.json.encode(settlement), media_type="application/json")


@router.post("/operator/rebuild/clickhouse")
async def rebuild_database(
    settings: OperatorsSettings, context: ContextOf, *, from_backup: bool = False
) -> Response:
    """Make the database again from the journal, or what comes after a backup's rows; what was made."""
    work = Rebuild(settings, context.database, rebuild.CLICKHOUSE)
    return await _rebuilt(work.from_backup() if from_backup else work.clickhouse())


@router.post("/operator/rebuild/roll-ups")
async def rebuild_roll_ups(
    settings: OperatorsSettings, context: ContextOf, first: date | None = None, last: date | None = None
) -> Response:
    """Make the roll-ups of some or all IST days again from the rows; what was made."""
    return await _rebuilt(Rebuild(settings, context.database, rebuild.ROLL_UPS).roll_ups(first, last))


async def _rebuilt(work: Awaitable[Rebuilt]) -> Response:
    try:
        report = await work
    except (MixedHistoriesError, NewerFormatError, EngineError, EngineUnavailable) as error:
        raise ApiError(RefusalCode.UNAVAILABLE, str(error)) from None
    return Response(msgspec.json.encode(report), media_type="application/json")


@router.post("/operator/queries/{name}")
async def run_query(
    _settings: OperatorsSettings, context: ContextOf, request: Request, name: str
) -> Response:
    """Run one of the queries of `metering verify`, `whatif` and `status`, whose parameters are the body; its rows, a JSON array a line."""
    if name not in ASKED_BY_COMMANDS:
        raise ApiError(RefusalCode.NOT_FOUND, "no such query")
    try:
        parameters = msgspec.json.decode(await request.body(), type=dict[str, int | str | list[int]])
        rows = await asking(context.database)(name, parameters)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ApiError(RefusalCode.INVALID_REQUEST, str(error)) from None
    return Response(rows, media_type="application/x-ndjson")
