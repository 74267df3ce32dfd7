"""Every route of the product by who may call it, and what each is tried with.

Owns: the lists. A new route, or a new verb of one, fails test_api_probe.py, test_api_contract.py and tests/product/test_trust.py until
it stands here: in one list by what it answers, and in `CHANGED_BY` if members change something with it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp

from pipeline.api.http.sessions import Role
from pipeline.api.server.app import ROUTERS

THEIRS = "org-theirs"

Try = tuple[str, str, Any]
"""(method, path, body). `{key_id}` stands for a key of the other org."""

ASKS_OWNER: dict[str, tuple[Try, ...]] = {
    "/me/billing": (("GET", "/me/billing", None), ("GET", "/me/billing?limit=200", None)),
    "/me/forecast": (("GET", "/me/forecast", None),),
    "/me/billing/address": (
        ("PUT", "/me/billing/address", {"name": "Mine", "line1": "1 Road", "pin": "560001"}),
    ),
    "/me/billing/threshold": (("PUT", "/me/billing/threshold", {"threshold_inr": 5}),),
    "/me/notices": (("GET", "/me/notices", None), ("PATCH", "/me/notices", {"mail": False})),
    "/me/notices/webhook": (("PUT", "/me/notices/webhook", {"url": "https://hooks.mine.example/x"}),),
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
    "/me/balance": (("GET", "/me/balance?at=2026-06-01T00:00:00Z", None),),
    "/me/statements": (("GET", "/me/statements", None),),
    "/me/statements/{month}": (("GET", "/me/statements/2026-06", None),),
    "/me/statements/{month}/proof": (("GET", "/me/statements/2026-06/proof", None),),
    "/me/keys": (("GET", "/me/keys", None), ("POST", "/me/keys", {"name": "another"})),
    "/me/keys/{key_id}": (("PATCH", "/me/keys/{key_id}", {"name": "stolen"}),),
}
"""Routes with a session that ask the account's owner."""

WITHOUT_OWNER: dict[str, tuple[Try, ...]] = {
    "/me/tokens": (("GET", "/me/tokens", None), ("POST", "/me/tokens", {"name": "another"})),
    "/me/tokens/{id}": (("DELETE", "/me/tokens/tok_theirs", None),),
    "/me/whatif": (
        ("POST", "/me/whatif", {}),
        ("POST", "/me/whatif", {"from": "2026-06-01", "to": "2026-06-13"}),
    ),
}
"""Routes with a session that take more than a GET and ask no owner: access tokens, which all servers know, and what-ifs."""

SIGNED_BY_RAZORPAY = {"/webhooks/razorpay"}
OPERATORS = {
    "/operator/queries/{name}",
    "/operator/rebuild/clickhouse",
    "/operator/rebuild/roll-ups",
    "/operator/reconcile",
    "/operator/settle/{payment_id}",
}
PAGES_OF_AN_ORG = {"/overview", "/activity", "/activity/{id}", "/keys", "/statements", "/notices", "/billing"}
"""Pages that need a session in the cookie."""

PUBLIC_PAGES = {"/", "/rankings", "/models"}
PAGES = {
    *PAGES_OF_AN_ORG,
    *PUBLIC_PAGES,
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
    "/me/whatif/providers": ("", "?from=2026-06-01&to=2026-06-13"),
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

SEARCHES = {"/me/search": "?q="}
"""Routes that need a session and name one thing of the org by an id in the query."""

PUBLIC = {"/v1/rankings", "/v1/catalog", "/v1/checkpoints", "/v1/models", "/healthz"}
TEXT = {"/metrics"}

NEEDS_NO_SESSION = PAGES - PAGES_OF_AN_ORG
"""The pages, and their files, that strangers see. Every other page is 401 for them."""

OWNER: frozenset[Role] = frozenset({"owner"})
MANAGERS: frozenset[Role] = frozenset({"owner", "admin"})
MEMBERS: frozenset[Role] = frozenset({*MANAGERS, "member"})
CHANGED_BY: dict[tuple[str, str], frozenset[Role]] = {
    ("PUT", "/me/billing/address"): OWNER,
    ("PUT", "/me/billing/threshold"): OWNER,
    ("PATCH", "/me/notices"): OWNER,
    ("PUT", "/me/notices/webhook"): OWNER,
    ("POST", "/me/billing/promo/check"): OWNER,
    ("POST", "/me/billing/orders"): OWNER,
    ("POST", "/me/billing/verify"): OWNER,
    ("POST", "/me/keys"): MANAGERS,
    ("PATCH", "/me/keys/{key_id}"): MANAGERS,
    ("POST", "/me/tokens"): MANAGERS,
    ("DELETE", "/me/tokens/{id}"): MANAGERS,
    ("POST", "/me/whatif"): MEMBERS,
}
"""Which roles may ask for each route of an org that is more than a GET. GETs are for all."""


class Access(Enum):
    """Who is answered what they ask a route for."""

    ANYBODY = "anybody"
    MEMBERS = "who has a session"
    OPERATORS = "who has the operator's token"
    RAZORPAY = "who signs as Razorpay"


def verbs_of(app: ASGIApp) -> set[tuple[str, str]]:
    """Return each verb and path that an app answers, documented or not, as its routes themselves say."""
    routes = iter_route_contexts(cast(FastAPI, app).routes)
    return {(verb, str(route.path)) for route in routes for verb in route.methods or ()}


def verbs_of_the_product() -> set[tuple[str, str]]:
    """Return each verb and path of the product's routers."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for router in ROUTERS:
        app.include_router(router)
    return verbs_of(app)


def expected() -> dict[tuple[str, str], Access]:
    """Return who may ask for each verb and path, by the lists here."""
    reads = (*OF_AN_ORG, *FILES_OF_AN_ORG, *BY_ID, *SEARCHES)
    return {
        **{("GET", path): Access.MEMBERS for path in (*reads, *PAGES_OF_AN_ORG)},
        **{
            (verb, path): Access.MEMBERS
            for path, tries in (ASKS_OWNER | WITHOUT_OWNER).items()
            for verb, _, _ in tries
        },
        **{
            ("GET", path): Access.ANYBODY
            for path in (*PUBLIC, *TEXT, *NEEDS_NO_SESSION - {"/logout"}, "/openapi.json")
        },
        # The framework's own route of the document.
        ("HEAD", "/openapi.json"): Access.ANYBODY,
        **{("POST", path): Access.ANYBODY for path in ("/login", "/logout")},
        **{("POST", path): Access.OPERATORS for path in OPERATORS},
        **{("POST", path): Access.RAZORPAY for path in SIGNED_BY_RAZORPAY},
    }


def unclassified(app: ASGIApp) -> set[tuple[str, str]]:
    """Return each verb and path that an app answers and no list here says who may ask for."""
    return verbs_of(app) - expected().keys()


def paths_of(app: ASGIApp) -> set[str]:
    """Return the path of every route of an app, as it was declared, documented or not."""
    return {path for _, path in verbs_of(app)}
