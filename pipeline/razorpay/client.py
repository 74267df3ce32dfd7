"""Ask Razorpay over its REST API.

Owns: the calls, their time limits and retries, and what a failed call means.
Called by: `api/routes/orders.py`, `operations/`. Next: `razorpay/entities.py` for what the answers hold.

A call that may safely be made twice is tried again, with growing pauses, until its time is up. Making an
order is not: after an unclear answer the caller looks for it by its receipt. Amounts are paise.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from pipeline import telemetry
from pipeline.razorpay import entities
from pipeline.razorpay.entities import DisputeEntity, OrderEntity, PaymentEntity, RefundEntity

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_LIMIT_S = 6.0
CONNECT_LIMIT_S = 2.0
READ_LIMIT_S = 4.0
PAUSE_S, PAUSE_MAX_S = 0.1, 2.0
PAGE = 100
WORDS_MAX = 300

_OK, _BAD_REQUEST, _NOT_FOUND = 200, 400, 404
_TOO_MANY, _SERVER_ERROR = 429, 500


class RazorpayUnavailableError(Exception):
    """Razorpay gave no clear answer in time. What was asked for may or may not have happened."""


class RazorpayRefusedError(Exception):
    """Razorpay refused: `status` is HTTP's, the message its own description."""

    def __init__(self, status: int, description: str) -> None:
        """Keep why."""
        super().__init__(f"{status}: {description}")
        self.status = status


class RazorpayClient:
    """Calls with one key. Safe to share between tasks; `close` it at the end."""

    def __init__(
        self,
        url: str,
        key_id: str,
        key_secret: str,
        *,
        limit_s: float = CALL_LIMIT_S,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is connected before the first call."""
        self.key_id = key_id
        self.key_secret = key_secret
        self._limit_s = limit_s
        self._http = httpx2.AsyncClient(
            base_url=url.rstrip("/"),
            auth=httpx2.BasicAuth(key_id, key_secret),
            timeout=httpx2.Timeout(READ_LIMIT_S, connect=CONNECT_LIMIT_S),
            transport=transport,
            trust_env=transport is None,
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._http.aclose()

    async def create_order(self, amount_paise: int, receipt: str, notes: Mapping[str, str]) -> OrderEntity:
        """Make an order. After RazorpayUnavailableError it may exist: look for its receipt."""
        body = {"amount": amount_paise, "currency": "INR", "receipt": receipt, "notes": dict(notes)}
        answer = await self._ask("create_order", "POST", "/orders", json=body, repeatable=False)
        return _decoded(entities.decode_order, answer)

    async def find_order(self, receipt: str) -> OrderEntity | None:
        """Return the order made with a receipt, if there is one."""
        try:
            answer = await self._ask("find_order", "GET", "/orders", params={"receipt": receipt, "count": 10})
        except RazorpayRefusedError as error:
            if error.status in (_BAD_REQUEST, _NOT_FOUND):
                return None
            raise
        for item in _decoded(entities.decode_collection, answer).items:
            order = _decoded(entities.decode_order, bytes(item))
            if order.receipt == receipt:
                return order
        return None

    async def order(self, order_id: str) -> OrderEntity | None:
        """Return an order, None where Razorpay knows none of this id."""
        answer = await self._get_one("order", f"/orders/{quote(order_id, safe='')}")
        return _decoded(entities.decode_order, answer) if answer is not None else None

    async def payment(self, payment_id: str) -> PaymentEntity | None:
        """Return a payment, None where Razorpay knows none of this id."""
        answer = await self._get_one("payment", f"/payments/{quote(payment_id, safe='')}")
        return _decoded(entities.decode_payment, answer) if answer is not None else None

    async def payments_of(self, order_id: str) -> list[PaymentEntity]:
        """Return every payment that was tried on an order."""
        answer = await self._get_one("payments_of", f"/orders/{quote(order_id, safe='')}/payments")
        return _payments(answer) if answer is not None else []

    async def refunds_of(self, payment_id: str) -> list[RefundEntity]:
        """Return the refunds of a payment."""
        path = f"/payments/{quote(payment_id, safe='')}/refunds"
        try:
            return [_decoded(entities.decode_refund, item) async for item in self._listed("refunds_of", path)]
        except RazorpayRefusedError as error:
            if error.status in (_BAD_REQUEST, _NOT_FOUND):
                return []
            raise

    async def capture(self, payment: PaymentEntity) -> PaymentEntity | None:
        """Capture an authorised payment and return it as it is then."""
        path = f"/payments/{quote(payment.id, safe='')}/capture"
        body = {"amount": payment.amount, "currency": payment.currency}
        try:
            return _decoded(entities.decode_payment, await self._ask("capture", "POST", path, json=body))
        except RazorpayRefusedError as error:
            if error.status != _BAD_REQUEST:
                raise
            # It may have been captured meanwhile, which is refused too.
            return await self.payment(payment.id)

    async def payments(self, since_s: int | None = None) -> AsyncIterator[PaymentEntity]:
        """Yield the account's payments, newest first; with `since_s` those made since then."""
        async for item in self._listed("payments", "/payments", since_s):
            yield _decoded(entities.decode_payment, item)

    async def refunds(self, since_s: int) -> AsyncIterator[RefundEntity]:
        """Yield the account's refunds made since an instant, newest first."""
        try:
            async for item in self._listed("refunds", "/refunds", since_s):
                yield _decoded(entities.decode_refund, item)
        except RazorpayRefusedError as error:
            if error.status not in (_BAD_REQUEST, _NOT_FOUND):
                raise
            # What stands between may pass on only a payment's own refunds: then those of the payments made since.
            async for payment in self.payments(since_s):
                for refund in await self.refunds_of(payment.id) if payment.amount_refunded else ():
                    yield refund

    async def disputes(self, since_s: int) -> AsyncIterator[DisputeEntity]:
        """Yield the account's disputes made since an instant, newest first."""
        async for item in self._listed("disputes", "/disputes", since_s):
            yield _decoded(entities.decode_dispute, item)

    async def _listed(self, call: str, path: str, since_s: int | None = None) -> AsyncIterator[bytes]:
        """Yield each entity of a list of the account once, page by page."""
        seen: set[str] = set()
        skip = 0
        while True:
            params: dict[str, int] = {"count": PAGE, "skip": skip}
            if since_s is not None:
                params["from"] = since_s
            page = _decoded(
                entities.decode_collection, await self._ask(call, "GET", path, params=params)
            ).items
            named = {_decoded(entities.decode_named, bytes(item)).id: bytes(item) for item in page}
            news = [entity_id for entity_id in named if entity_id not in seen]
            for entity_id in news:
                seen.add(entity_id)
                yield named[entity_id]
            # Entities made meanwhile push others onto the next page, so ids count, not numbers.
            if len(page) < PAGE or not news:
                return
            skip += len(page)

    async def _get_one(self, call: str, path: str) -> bytes | None:
        try:
            return await self._ask(call, "GET", path)
        except RazorpayRefusedError as error:
            # Razorpay answers 400 for an id that does not exist.
            if error.status in (_BAD_REQUEST, _NOT_FOUND):
                return None
            raise

    async def _ask(
        self,
        call: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        repeatable: bool = True,
    ) -> bytes:
        """Return the answer's body. Raises RazorpayUnavailableError and RazorpayRefusedError."""
        deadline = time.monotonic() + self._limit_s
        pause_s = PAUSE_S
        while True:
            started, outcome, wait_s = time.monotonic(), "error", 0.0
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - started):
                    answer = await self._http.request(method, path, params=params, json=json)
                outcome = f"{answer.status_code // 100}xx"
                if _OK <= answer.status_code < _BAD_REQUEST:
                    return answer.content
                if answer.status_code != _TOO_MANY and answer.status_code < _SERVER_ERROR:
                    raise RazorpayRefusedError(answer.status_code, _description(answer))
                problem = f"{answer.status_code}"
                wait_s = _retry_after_s(answer)
                again = repeatable or answer.status_code == _TOO_MANY
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                problem, again = repr(error), True
            except (httpx2.HTTPError, TimeoutError) as error:
                problem, again = repr(error), repeatable
            finally:
                telemetry.RAZORPAY.labels(call, outcome).observe(time.monotonic() - started)
            wait_s = max(wait_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            if not again or time.monotonic() + wait_s >= deadline:
                raise RazorpayUnavailableError(f"{call}: {problem}")
            await asyncio.sleep(wait_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)


def _payments(answer: bytes) -> list[PaymentEntity]:
    items = _decoded(entities.decode_collection, answer).items
    return [_decoded(entities.decode_payment, bytes(item)) for item in items]


def _decoded(decode: Callable[[bytes], T], answer: bytes) -> T:
    try:
        return decode(answer)
    except msgspec.MsgspecError as error:
        raise RazorpayUnavailableError(f"an answer that is not understood: {error}") from None


def _retry_after_s(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < len("0000") else 0.0


def _description(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["description"])[:WORDS_MAX]
    except (ValueError, KeyError, TypeError):
        return answer.text[:WORDS_MAX]
