"""What only the operator may ask of a running server, with the operator's token.

Owns: `POST /operator/verify` and `POST /operator/reconcile`, which the commands use where the embedded
engine is this process's.
Called by: `cli/verify.py`, `cli/reconcile.py`. Next: `operations/verify.py`, `payments/reconcile.py`.
"""

from __future__ import annotations

import hmac

import msgspec
from fastapi import APIRouter, Request, Response

from pipeline.api.http.errors import ApiError
from pipeline.clickhouse.client import Engine
from pipeline.operations.verify import verify
from pipeline.payments.reconcile import reconcile
from pipeline.razorpay.client import RazorpayRefusedError, RazorpayUnavailableError
from pipeline.settings import MissingSettingError, Settings

TOKEN_HEADER = "X-Operator-Token"  # noqa: S105 - the header's name, not a token


def router(settings: Settings, engine: Engine) -> APIRouter:
    """Return the operator's routes. Without a token in the settings they do not exist for anybody."""
    routes = APIRouter(include_in_schema=False)
    secret = settings.operator_token.get_secret_value() if settings.operator_token else ""

    def check_token(request: Request) -> None:
        given = request.headers.get(TOKEN_HEADER, "")
        if not secret or not hmac.compare_digest(given.encode(), secret.encode()):
            raise ApiError(404, "not_found", "no such endpoint")

    @routes.post("/operator/reconcile")
    async def reconcile_payments(request: Request) -> Response:
        """Compare Razorpay's payments, the ledger and the receipts; the report."""
        check_token(request)
        try:
            report = await reconcile(settings, engine)
        except (MissingSettingError, RazorpayRefusedError, RazorpayUnavailableError) as error:
            raise ApiError(503, "unavailable", str(error)) from None
        return Response(msgspec.json.encode(report), media_type="application/json")

    @routes.post("/operator/verify")
    async def verify_books(request: Request) -> Response:
        """Compare state, journal, rows and roll-ups; the report."""
        check_token(request)
        report = await verify(settings, engine)
        return Response(msgspec.json.encode(report), media_type="application/json")

    return routes
