"""Every route of the product by who may call it, and what each is tried with.

Owns: the lists. A new route fails test_api_contract.py and test_product.py until it stands here.
"""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp

THEIRS = "org-theirs"

Try = tuple[str, str, Any]
"""(method, path, body). `{key_id}` stands for a key of the other org."""

ASKS_OWNER: dict[str, tuple[Try, ...]] = {
    "/me/billing": (("GET", "/me/billing", None), ("GET", "/me/billing?limit=200", None)),
    "/me/billing/address": (
        ("PUT", "/me/billing/address", {"name": "Mine", "line1": "1 Road", "pin": "560001"}),
    ),
    "/me/billing/threshold": (("PUT", "/me/billing/threshold", {"threshold_inr": 5}),),
    "/me/billing/promo/check": (("POST", "/me/billing/promo/check", {"code": "NONE"}),),
    "/me/billing/orders": (("POST", "/me/billing/orders", {"amount_inr": 100}),),
    "/me/billing/verify": (
        (
            "POST",
            "/me/billing/verify",
            {
                "razorpay_order_id": "order_theirs",
                "razorpay_payment_id": "pay_theirs",
                "razorpay_signature": "0" * 64,
            },
        ),
    ),
    "/me/billing/receipts/{payment_id}": (("GET", "/me/billing/receipts/pay_theirs", None),),
    "/me/billing/pin/{pin}": (("GET", "/me/billing/pin/560001", None),),
    "/me/keys": (("GET", "/me/keys", None), ("POST", "/me/keys", {"name": "another"})),
    "/me/keys/{key_id}": (("PATCH", "/me/keys/{key_id}", {"name": "stolen"}),),
}
"""Routes with a session that ask the account's owner."""

SIGNED_BY_RAZORPAY = {"/webhooks/razorpay"}
OPERATORS = {
    "/operator/queries/{name}",
    "/operator/rebuild/clickhouse",
    "/operator/rebuild/roll-ups",
    "/operator/reconcile",
    "/operator/settle/{payment_id}",
}
PAGES = {
    "/overview",
    "/activity",
    "/activity/{id}",
    "/billing",
    "/login",
    "/logout",
    "/assets/{version}/{name}",
    "/docs",
    "/docs/{name}",
}

OF_AN_ORG = {
    "/me/usage": ("",),
    "/me/usage/daily": ("",),
    "/me/activity": (
        "",
        "?key_id=theirs_key",
        "?model=theirs_model",
        "?from=2026-06-01&to=2026-06-13",
        "?key_id=mine_key",
        "?provider=theirs_provider",
    ),
    "/me/activity/totals": ("", "?key_id=theirs_key", "?model=theirs_model", "?provider=mine_provider"),
    "/me/activity/latency": ("", "?key_id=theirs_key", "?model=theirs_model", "?provider=mine_provider"),
    "/me/keys/use": ("",),
    "/me/activity/events": (
        "",
        "?key_id=theirs_key",
        "?model=theirs_model",
        "?provider=theirs_provider",
        f"?before={2**53}",
        "?limit=200",
    ),
}
"""Routes that need a session, with the queries to try on each."""

FILES_OF_AN_ORG = {
    "/me/activity/events.csv": OF_AN_ORG["/me/activity"],
    "/me/activity.csv": OF_AN_ORG["/me/activity"],
}
"""Routes that need a session and answer a CSV file, with the queries to try on each."""

NAMES_NOBODY = {"/me/activity/totals"}
"""Routes of an org whose answers are numbers alone."""

BY_ID = {"/me/activity/events/{id}"}
"""Routes that need a session and name one thing of the org by its id."""

PUBLIC = {"/v1/rankings", "/v1/catalog", "/v1/models", "/healthz"}
TEXT = {"/metrics"}


def paths_of(app: ASGIApp) -> set[str]:
    """Return the path of every route of an app, as it was declared, documented or not."""
    return {str(route.path) for route in iter_route_contexts(cast(FastAPI, app).routes)}
