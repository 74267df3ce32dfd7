"""The product as a person at a browser has it: an org that is signed in, its money, and an answer that fails.

Owns: making orgs quickly, what a browser sent, and faults between browser and server. Everything else is the
product itself (`razorpay.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from playwright.sync_api import BrowserContext, Page, Request, Route

from pipeline.accounts.commands import AccountCommand, Credit, SignUp
from pipeline.api.http import errors
from pipeline.api.http.errors import ApiError
from pipeline.api.http.sessions import Role, issue
from pipeline.connection import KafkaConnection
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.money import parse_inr
from tests.support.builders import COMMAND_KEYS
from tests.support.product.processes import SESSION_SECRET
from tests.support.product.razorpay import ADDRESS, Shop

EMAIL = "asha@acme.example"
PROMO, PROMO_INR = "NAMASTE", 50


class Commands:
    """Sends commands from a thread of its own: while Playwright is open no other event loop runs in its thread."""

    def __init__(self, servers: str) -> None:
        """Connect to the broker of a running product."""
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        self._client = CommandClient(KafkaConnection(servers), COMMAND_KEYS)
        self._run(self._client.start())

    def send(self, command: AccountCommand[Any]) -> None:
        """Send a command and wait until it is carried out."""
        self._run(self._client.send(command, 30))

    def close(self) -> None:
        """Disconnect."""
        self._run(self._client.stop())
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _run(self, work: Any) -> None:
        self._thread.submit(self._runner.run, work).result(60)


@dataclass
class Dashboard:
    """The running product, and orgs for tests."""

    shop: Shop
    commands: Commands
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        """Where browsers reach it."""
        return self.shop.product.http_url

    @property
    def checkout_url(self) -> str:
        """Where Checkout comes from: another origin, as Razorpay's is."""
        return self.shop.environment["METERING_CHECKOUT_URL"]

    def org(self, balance_inr: str = "512.4939", *, address: bool = False) -> Org:
        """Return a new org with a balance, the signup credit in it, and with an address if wanted."""
        org = Org(f"acme-{next(self.numbers)}", self)
        self.commands.send(SignUp(new_command_id(), org.name, "Acme Labs", EMAIL))
        org.credit(str(Decimal(balance_inr) - 100), "an opening balance")
        if address:
            self.shop.put("/me/billing/address", org.name, ADDRESS)
        return org


@dataclass
class Org:
    """One org of a test."""

    name: str
    dashboard: Dashboard

    def credit(self, inr: str, reason: str) -> None:
        """Credit it, or with a minus correct it."""
        if amount_nano := parse_inr(Decimal(inr)):
            self.dashboard.commands.send(Credit(new_command_id(), self.name, amount_nano, reason))

    def token(self, role: Role = "owner") -> str:
        """Return a session token of a member."""
        return issue(SESSION_SECRET, self.name, role, EMAIL, int(time.time() * 1000))

    def sign_in(self, context: BrowserContext, role: Role = "owner") -> None:
        """Put a session into a browser's cookies."""
        cookie = {"name": "br_session", "value": self.token(role), "url": self.dashboard.url}
        context.add_cookies([cookie])  # type: ignore[list-item]  # Playwright's own type of a dict

    def billing(self) -> Any:
        """Return what `/me/billing` answers."""
        return self.dashboard.shop.get("/me/billing?limit=200", self.name)

    def topped_up(self, rupees: int = 500, promo_code: str | None = None, **how: object) -> str:
        """Return the id of a payment that has been credited; `how` is how Razorpay saw it paid."""
        shop = self.dashboard.shop
        paid = shop.pay(shop.ordered(self.name, rupees, promo_code=promo_code), **how)
        payment_id: str = paid["razorpay_payment_id"]
        shop.until(lambda: self._has(payment_id), f"{payment_id} is not credited")
        return payment_id

    def orders(self) -> list[Any]:
        """Return its orders as Razorpay has them."""
        return self.dashboard.shop.orders(self.name)

    def _has(self, payment_id: str) -> bool:
        return any(entry["payment_id"] == payment_id for entry in self.billing()["entries"])


class Sent:
    """What a page asked the product to change, in order."""

    def __init__(self, page: Page) -> None:
        """Listen to a page from now on."""
        self.requests: list[Request] = []
        page.on("request", self._take)

    def _take(self, request: Request) -> None:
        if request.method in ("POST", "PUT", "PATCH", "DELETE") and "/me/" in request.url:
            self.requests.append(request)

    def bodies(self, path: str) -> list[str]:
        """Return what was sent to a path, as it went out."""
        return [request.post_data or "" for request in self.requests if request.url.endswith(path)]

    def keys(self) -> list[str]:
        """Return the idempotency key of each."""
        return [request.headers["idempotency-key"] for request in self.requests]


def failing(page: Page, path: str, error: ApiError, times: int = 1) -> None:
    """Have a path answer with an error so many times, without the product being asked."""
    page.route(re.compile(rf"{path}(\?|$)"), lambda route: _fulfil(route, error), times=times)


def losing(page: Page, path: str, error: ApiError, times: int = 1) -> None:
    """Have the product do what a path is asked to change so many times, and an error come in place of its answer."""
    left = [times]

    def lose(route: Route) -> None:
        if route.request.method == "GET" or not left[0]:
            route.fallback()
            return
        left[0] -= 1
        route.fetch()
        _fulfil(route, error)

    page.route(re.compile(rf"{path}(\?|$)"), lose)


def _fulfil(route: Route, error: ApiError) -> None:
    said = errors.answer(error, "request-of-a-test")
    route.fulfill(status=said.status_code, headers=dict(said.headers), body=bytes(said.body))


@contextmanager
def dashboard(shop: Shop) -> Iterator[Dashboard]:
    """Connect to a running product, and make the promo code of the tests."""
    done = shop.metering("promo", "create", PROMO, "--bonus-inr", str(PROMO_INR))
    assert done.returncode == 0, done.stderr
    commands = Commands(shop.product.servers)
    try:
        yield Dashboard(shop, commands)
    finally:
        commands.close()
