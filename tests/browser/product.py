"""The real pages beside a JSON API that answers from memory, served over HTTP for a browser.

The API's answers have the shapes of the real one; the real one is tested end to end elsewhere.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response

from pipeline.accounts.model import Address
from pipeline.api.http import errors
from pipeline.api.http.edge import Edge
from pipeline.api.http.errors import ApiError, invalid
from pipeline.api.http.origin import check_same_origin
from pipeline.api.http.sessions import Role, SignedIn, issue
from pipeline.api.pages import receipt as receipt_page
from pipeline.api.routes import pages, pincodes
from pipeline.api.routes.receipts import Payer, Receipt
from pipeline.api.services.context import Parts
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine

SECRET = "a secret of the tests, long enough to sign with"
ADDRESS = {
    "name": "Acme Labs", "line1": "12 Church Street", "line2": None, "city": "Bengaluru Urban",
    "state": "Karnataka", "pin": "560001", "gstin": None,
}  # fmt: skip

CHECKOUT = """
window.Razorpay = class {
  constructor(options) { this.options = options; this.on_ = {}; }
  on(name, heard) { this.on_[name] = heard; }
  open() {
    const frame = document.createElement("dialog");
    frame.setAttribute("aria-label", "Checkout");
    frame.style.position = "fixed";
    const { order_id, amount, handler, modal } = this.options;
    frame.append(`${this.options.name} ${amount} ${order_id} ${this.options.prefill.email}`);
    const button = (text, act) => {
      const made = document.createElement("button");
      made.textContent = text;
      made.onclick = act;
      frame.append(made);
    };
    button("Succeed", () => { frame.remove(); handler({ razorpay_order_id: order_id, razorpay_payment_id: "pay_new", razorpay_signature: "s" }); });
    button("Fail", () => this.on_["payment.failed"]({ error: { description: "The bank said no." } }));
    button("Close", () => { frame.remove(); modal.ondismiss(); });
    document.body.append(frame);
    frame.showModal();
  }
};
"""


def entry(number: int, kind: str, amount: str, after: str, **more: str | None) -> dict[str, Any]:
    """Return a ledger entry; amounts are JSON numbers as text."""
    filled = {"payment_id": None, "order_id": None, "promo_code": None, "note": None, **more}
    at = f"2026-06-{1 + number % 28:02d}T23:59:59.123+05:30"
    return {"id": number, "at": at, "kind": kind, "amount_inr": amount, "balance_after_inr": after, **filled}


@dataclass
class Product:
    """What the API answers from, and what it was asked to change."""

    url: str = ""
    balance: str = "512.4939"
    threshold: str | None = None
    address: dict[str, Any] | None = None
    entries: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    failing: dict[str, list[ApiError]] = field(default_factory=dict)
    credits: bool = True

    def token(self, role: Role = "owner", org: str = "org_acme") -> str:
        """Return a session token."""
        return issue(SECRET, org, role, "asha@acme.example", int(time.time() * 1000))

    def sign_in(self, context: Any, role: Role = "owner") -> None:
        """Put a session into a browser's cookies."""
        context.add_cookies([{"name": "br_session", "value": self.token(role), "url": self.url}])

    def bodies(self, path: str) -> list[str]:
        """Return what was sent to a path, as it came."""
        return [body for _, asked, body in self.asked if asked == path]


def _numbers(value: Any) -> str:
    """Encode, writing amounts as the JSON numbers their text is."""
    text = json.dumps(value)
    for amount in sorted(set(_amounts(value)), key=len, reverse=True):
        text = text.replace(f'_inr": "{amount}"', f'_inr": {amount}')
    return text


def _amounts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            if name.endswith("_inr") and isinstance(inside, str):
                yield inside
            else:
                yield from _amounts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _amounts(inside)


def _json(value: Any) -> Response:
    return Response(_numbers(value), media_type="application/json")


def _api(product: Product) -> APIRouter:  # noqa: C901 - one route after another
    api = APIRouter()

    async def changed(request: Request, session: SignedIn) -> Any:
        check_same_origin(request)
        body = (await request.body()).decode()
        product.asked.append((request.method, request.url.path, body))
        product.keys.append(request.headers.get("idempotency-key", ""))
        assert request.headers["content-type"] == "application/json"
        if waiting := product.failing.get(request.url.path):
            raise waiting.pop(0)
        if session.role != "owner":
            raise ApiError(403, "forbidden", "only an owner may change billing")
        return json.loads(body)

    @api.get("/me/billing")
    async def billing(_session: SignedIn, before: int = 2**53, limit: int = 50) -> Response:
        if waiting := product.failing.get("/me/billing"):
            raise waiting.pop(0)
        rows = [row for row in product.entries if row["id"] < before]
        shown = rows[:limit]
        return _json(
            {
                "balance_inr": product.balance,
                "threshold_inr": product.threshold,
                "address": product.address,
                "entries": shown,
                "next_before": shown[-1]["id"] if len(rows) > limit else None,
            }
        )

    @api.put("/me/billing/address")
    async def address(request: Request, session: SignedIn) -> Response:
        product.address = await changed(request, session)
        return _json({"address": product.address})

    @api.put("/me/billing/threshold")
    async def threshold(request: Request, session: SignedIn) -> Response:
        await changed(request, session)
        text = product.asked[-1][2].partition(":")[2].rstrip("}").strip()
        product.threshold = None if text == "null" else text
        return _json({"threshold_inr": product.threshold})

    @api.post("/me/billing/promo/check")
    async def promo(request: Request, session: SignedIn) -> Response:
        code = (await changed(request, session))["code"]
        if code != "NAMASTE":
            raise ApiError(400, "promo_invalid", "this promo code is not valid", param="code")
        return _json({"code": code, "bonus_inr": "50"})

    @api.post("/me/billing/orders")
    async def order(request: Request, session: SignedIn) -> Response:
        body = await changed(request, session)
        if product.address is None:
            raise ApiError(400, "address_required", "a billing address is needed first")
        if body["promo_code"] == "USED":
            raise ApiError(400, "promo_redeemed", "the org has redeemed this promo code", param="promo_code")
        return _json(
            {"order_id": "order_new", "amount_paise": body["amount_inr"] * 100, "currency": "INR",
             "razorpay_key_id": "rzp_test"}
        )  # fmt: skip

    @api.post("/me/billing/verify")
    async def verify(request: Request, session: SignedIn) -> Response:
        await changed(request, session)
        if product.credits:
            product.entries.insert(
                0, entry(9001, "topup", "500", "1012.4939", payment_id="pay_new", order_id="order_new")
            )
            product.balance = "1012.4939"
        return _json({"status": "captured", "balance_inr": product.balance})

    @api.get("/me/billing/receipts/{payment_id}")
    async def receipt(_session: SignedIn, payment_id: str) -> Response:
        headers = {"Content-Security-Policy": receipt_page.POLICY}
        page = receipt_page.render(receipt_of(payment_id))
        return Response(page, media_type="text/html", headers=headers)

    @api.get("/checkout.js")
    async def checkout() -> Response:
        if product.failing.get("/checkout.js"):
            product.failing["/checkout.js"].pop()
            raise invalid("checkout", "not now")
        return Response(CHECKOUT, media_type="text/javascript")

    return api


def receipt_of(payment_id: str, **changes: Any) -> Receipt:
    """Return a receipt to show."""
    fields: dict[str, Any] = {
        "payment_id": payment_id,
        "order_id": "order_Ff12Gh34",
        "amount_nano": 123_456_780_000_000,
        "payer": Payer("Asha Rao", "asha@acme.example", "+919900000000"),
        "address": Address(
            "Acme Labs", "12 Church Street", "", "Bengaluru", "Karnataka", "560001", "29ABCDE1234F1Z5"
        ),
        "method": "upi",
        "paid_at_ms": 1_781_288_999_123,
    }
    return Receipt(**{**fields, **changes})


@contextmanager
def running() -> Iterator[Product]:
    """Serve until the block ends."""
    product = Product()
    app = FastAPI()
    app.state.parts = Parts(
        engine=cast(Engine, None),  # no route here reads from it
        key_names={},
        rates=RateTable(),
        session_secret=SECRET,
        now_ms=lambda: int(time.time() * 1000),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    product.url = f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    errors.install(app)
    app.add_middleware(Edge)
    app.include_router(pincodes.router)
    app.include_router(_api(product))
    # By another name it is another origin, as Razorpay's is.
    app.include_router(pages.router(f"http://localhost:{port}/checkout.js"))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield product
    finally:
        server.should_exit = True
        thread.join(10)
