"""A stand-in for Razorpay: its REST API, signed webhooks and a test checkout, in one small server.

Owns: the routes. For the demo and the tests; no money is anywhere near it.
Called by: `python -m pipeline.standin.razorpay --port N`, the demo's child process.
Next: `standin/razorpay_book.py` for the states, `standin/razorpay_hooks.py` for the webhooks.

    /v1/...            the API: orders, payments, captures, refunds, disputes; basic auth
    /v1/checkout.js    Checkout's API for a page: new Razorpay(options).open()
    /control/...       what a payer, a bank or bad luck does
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse

from pipeline.razorpay.signatures import sign_callback
from pipeline.standin.razorpay_book import Book, Entity, RefusedError
from pipeline.standin.razorpay_hooks import Hooks, Manners

CHECKOUT = Path(__file__).with_name("checkout.js")
LATE_S = 5.0
"""How long the bank of a late payment takes."""
COUNT_DEFAULT, COUNT_MAX = 10, 100


class RazorpayStandIn:
    """The server's state: the book, the deliveries, and the ways in which it may be down."""

    def __init__(self, key_id: str, key_secret: str, kept: Path | None = None) -> None:
        """Open with the key pair that callers have to use; `kept` is a file to keep the book in."""
        self.key_id, self.key_secret = key_id, key_secret
        self.book, self.hooks = Book(), Hooks()
        self.fail_next = 0
        self.lose_next = 0
        self.calls: list[str] = []
        self._later: set[asyncio.Task[None]] = set()
        self._kept = kept
        if kept is not None and kept.exists():
            self.book.load(msgspec.json.decode(kept.read_bytes()))

    def settle_later(self, payment_id: str) -> None:
        """Have the bank say yes after a while."""
        task = asyncio.create_task(self._settle(payment_id))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _settle(self, payment_id: str) -> None:
        await asyncio.sleep(LATE_S)
        payment = self.book.authorize(payment_id, _now_s())
        self.book.capture(payment_id, payment["amount"], _now_s())
        self.tell()

    def hooks_to(self, url: str, secret: str) -> None:
        """Send webhooks to an address, signed with a secret."""
        self.hooks.manners.url, self.hooks.manners.secret = url, secret

    def tell(self) -> None:
        """Deliver what has happened, and keep the book."""
        events, self.book.events = self.book.events, []
        self.hooks.tell(events)
        if self._kept is not None:
            new = self._kept.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(self.book.dump()))
            new.replace(self._kept)

    def is_let_in(self, request: Request) -> bool:
        """Whether a caller knows the key."""
        pair = b64encode(f"{self.key_id}:{self.key_secret}".encode()).decode()
        return secrets.compare_digest(request.headers.get("Authorization", ""), f"Basic {pair}")

    def callback(self, payment: Entity) -> Entity:
        """Return what Checkout hands to the page."""
        order_id = payment["order_id"] or ""
        return {
            "razorpay_payment_id": payment["id"],
            "razorpay_order_id": order_id,
            "razorpay_signature": sign_callback(order_id, payment["id"], self.key_secret),
        }


def create_app(stand_in: RazorpayStandIn) -> FastAPI:
    """Return the server's app."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await stand_in.hooks.close()

    app = FastAPI(openapi_url=None, lifespan=lifespan)

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: Exception) -> Response:
        return _problem(400, str(error))

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Keep strangers out of the API, and be down where asked to."""
        path = request.url.path
        if path.startswith("/v1/") and not path.endswith((".js", "/standin")):
            stand_in.calls.append(f"{request.method} {path}")
            if not stand_in.is_let_in(request):
                return _problem(401, "Authentication failed")
            if stand_in.fail_next:
                stand_in.fail_next -= 1
                return _problem(502, "The server is down", "SERVER_ERROR")
        answer = await go_on(request)
        if path.startswith("/v1/") and request.method == "POST" and stand_in.lose_next:
            stand_in.lose_next -= 1
            return _problem(504, "The gateway gave up waiting", "SERVER_ERROR")
        # The page that uses Checkout comes from another origin.
        answer.headers["Access-Control-Allow-Origin"] = "*"
        answer.headers["Access-Control-Allow-Headers"] = "Content-Type"
        return answer

    _add_returns(app, stand_in.book)
    _add_api(app, stand_in)
    _add_checkout(app, stand_in)
    _add_control(app, stand_in)
    _add_bad_luck(app, stand_in)
    return app


def _add_returns(app: FastAPI, book: Book) -> None:
    """Add the lists of what went back to payers."""

    @app.get("/v1/payments/{payment_id}/refunds")
    async def refunds_of(payment_id: str, request: Request) -> Entity:
        return _page([r for r in book.refunds.values() if r["payment_id"] == payment_id], request)

    @app.get("/v1/refunds")
    async def list_refunds(request: Request) -> Entity:
        return _page(list(book.refunds.values()), request)

    @app.get("/v1/disputes")
    async def list_disputes(request: Request) -> Entity:
        return _page(list(book.disputes.values()), request)


def _add_api(app: FastAPI, stand_in: RazorpayStandIn) -> None:
    book = stand_in.book

    @app.post("/v1/orders")
    async def create_order(request: Request) -> Entity:
        order = book.create_order(await request.json(), _now_s())
        stand_in.tell()
        return order

    @app.get("/v1/orders")
    async def list_orders(request: Request) -> Entity:
        receipt = request.query_params.get("receipt")
        found = [o for o in book.orders.values() if receipt is None or o["receipt"] == receipt]
        return _page(found, request)

    @app.get("/v1/orders/{order_id}/payments")
    async def payments_of(order_id: str) -> Entity:
        return _collection(book.payments_of(order_id))

    @app.get("/v1/payments")
    async def list_payments(request: Request) -> Entity:
        return _page(list(book.payments.values()), request)

    @app.get("/v1/{kind}/{entity_id}")
    async def one(kind: str, entity_id: str) -> Entity:
        if kind not in ("orders", "payments", "refunds", "disputes"):
            raise RefusedError("The requested URL was not found on the server.")
        return book.one(kind, entity_id)

    @app.post("/v1/payments/{payment_id}/capture")
    async def capture(payment_id: str, request: Request) -> Entity:
        payment = book.capture(payment_id, (await request.json()).get("amount"), _now_s())
        stand_in.tell()
        return payment

    @app.post("/v1/payments/{payment_id}/refund")
    async def refund(payment_id: str, request: Request) -> Entity:
        body = await request.body()
        amount = msgspec.json.decode(body).get("amount") if body else None
        made = book.refund(payment_id, amount, _now_s())
        stand_in.tell()
        return made


def _add_checkout(app: FastAPI, stand_in: RazorpayStandIn) -> None:
    @app.get("/v1/checkout.js")
    @app.get("/checkout.js")
    async def script() -> Response:
        return Response(CHECKOUT.read_text(encoding="utf-8"), media_type="text/javascript")

    @app.options("/{path:path}")
    async def preflight(path: str) -> Response:  # noqa: ARG001 - any path
        return Response(status_code=204)

    @app.post("/checkout/{order_id}/standin")
    async def pay(order_id: str, request: Request) -> Entity:
        """Pay as the test checkout does: `outcome` captured, failed, authorized, or late."""
        payment = stand_in.book.pay(order_id, await request.json(), _now_s())
        stand_in.tell()
        if payment["status"] == "created":
            stand_in.settle_later(payment["id"])
        if payment["status"] == "failed":
            reason = {"description": payment["error_description"], "metadata": {"payment_id": payment["id"]}}
            return {"error": {"code": payment["error_code"], **reason}}
        return stand_in.callback(payment)


def _add_control(app: FastAPI, stand_in: RazorpayStandIn) -> None:
    book = stand_in.book

    @app.post("/control/webhooks")
    async def webhooks(request: Request) -> Entity:
        """Say where webhooks go and how badly: the fields of `Manners`."""
        current = msgspec.to_builtins(stand_in.hooks.manners)
        stand_in.hooks.manners = msgspec.convert({**current, **await request.json()}, Manners)
        return {"lost": stand_in.hooks.manners.lost}

    @app.get("/control/webhooks")
    async def delivered() -> Entity:
        return {"delivered": stand_in.hooks.delivered}

    @app.post("/control/pay")
    async def pay(request: Request) -> Entity:
        """Pay without a page; returns the callback."""
        how = await request.json()
        payment = book.pay(how.get("order_id"), how, _now_s())
        stand_in.tell()
        return {**stand_in.callback(payment), "payment": payment}

    @app.post("/control/payments/{payment_id}/{step}")
    async def payment(payment_id: str, step: str) -> Entity:
        """Go on with a payment: `authorize` or `capture`, as a bank or the auto-capture does."""
        found = book.one("payments", payment_id)
        if step == "authorize":
            book.authorize(payment_id, _now_s())
        elif step == "capture":
            book.capture(payment_id, found["amount"], _now_s())
        else:
            raise RefusedError("authorize or capture")
        stand_in.tell()
        return found

    @app.post("/control/refunds/{refund_id}/{status}")
    async def end_refund(refund_id: str, status: str) -> Entity:
        refund = book.end_refund(refund_id, status, _now_s())
        stand_in.tell()
        return refund

    @app.post("/control/disputes")
    async def dispute(request: Request) -> Entity:
        """Dispute a payment: `payment_id`, and `amount` where it is not all of it."""
        how = await request.json()
        made = book.dispute(how["payment_id"], how.get("amount"), _now_s())
        stand_in.tell()
        return made

    @app.post("/control/disputes/{dispute_id}/{step}")
    async def move_dispute(dispute_id: str, step: str) -> Entity:
        """Go on with a dispute: `lost`, `won`, `reversed`, and the other steps of the book."""
        moved = book.move_dispute(dispute_id, step, _now_s())
        stand_in.tell()
        return moved


def _add_bad_luck(app: FastAPI, stand_in: RazorpayStandIn) -> None:
    @app.post("/control/down/{calls}")
    async def down(calls: int) -> Entity:
        """Answer the next so many calls of the API with 502."""
        stand_in.fail_next = calls
        return {"fail_next": calls}

    @app.post("/control/lose/{calls}")
    async def lose(calls: int) -> Entity:
        """Do what the next so many POSTs of the API ask for, and answer 504 all the same."""
        stand_in.lose_next = calls
        return {"lose_next": calls}

    @app.get("/control/calls")
    async def calls() -> Entity:
        return {"calls": stand_in.calls}


def _page(entities: list[Entity], request: Request) -> Entity:
    """Return a page of a list, newest first, as `count`, `skip`, `from` and `to` say."""
    query = request.query_params
    first, last = int(query.get("from", 0)), int(query.get("to", 2**40))
    count, skip = min(int(query.get("count", COUNT_DEFAULT)), COUNT_MAX), int(query.get("skip", 0))
    found = [entity for entity in reversed(entities) if first <= entity["created_at"] <= last]
    return _collection(found[skip : skip + count])


def _collection(items: list[Entity]) -> Entity:
    return {"entity": "collection", "count": len(items), "items": items}


def _problem(status: int, description: str, code: str = "BAD_REQUEST_ERROR") -> JSONResponse:
    return JSONResponse({"error": {"code": code, "description": description}}, status)


def _now_s() -> int:
    return int(time.time())


def main(arguments: list[str] | None = None) -> int:
    """Run the stand-in until it is told to stop; the exit code."""
    parser = argparse.ArgumentParser(description="A stand-in for Razorpay.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--key-id", default="rzp_test_standin")
    parser.add_argument("--key-secret", default="standin-key-secret")
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--webhook-secret", default="standin-webhook-secret")
    parser.add_argument("--keep", type=Path, default=None, help="a file to keep orders and payments in")
    given = parser.parse_args(arguments)
    stand_in = RazorpayStandIn(given.key_id, given.key_secret, given.keep)
    stand_in.hooks_to(given.webhook_url, given.webhook_secret)
    config = uvicorn.Config(
        create_app(stand_in), host=given.host, port=given.port, log_level="warning", access_log=False
    )
    asyncio.run(uvicorn.Server(config).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
