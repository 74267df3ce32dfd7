"""The client against the stand-in, in one process: what it asks, what it makes of answers and of none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from pipeline.razorpay.client import RazorpayClient, RazorpayRefusedError, RazorpayUnavailableError
from pipeline.standin.razorpay import RazorpayStandIn, create_app

KEY = ("rzp_test", "secret")
NOTES = {"org": "org_1"}


@asynccontextmanager
async def _client(
    transport: httpx2.AsyncBaseTransport, key: tuple[str, str] = KEY, limit_s: float = 2.0
) -> AsyncIterator[RazorpayClient]:
    client = RazorpayClient("http://razorpay/v1", *key, limit_s=limit_s, transport=transport)
    yield client
    await client.close()


def _standing(stand_in: RazorpayStandIn) -> httpx2.ASGITransport:
    return httpx2.ASGITransport(create_app(stand_in))


def _answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.MockTransport:
    return httpx2.MockTransport(answer)


async def test_an_order_its_payments_and_their_capture() -> None:
    stand_in = RazorpayStandIn(*KEY)
    async with _client(_standing(stand_in)) as razorpay:
        order = await razorpay.create_order(50_000, "receipt", NOTES)
        assert (order.amount, order.note("org"), order.note("promo")) == (50_000, "org_1", None)
        assert await razorpay.order(order.id) == order == await razorpay.find_order("receipt")
        assert await razorpay.find_order("another") is None
        assert await razorpay.payments_of(order.id) == []
        stand_in.book.pay(order.id, {"outcome": "authorized"}, 1)
        [payment] = await razorpay.payments_of(order.id)
        assert not payment.is_captured
        captured = await razorpay.capture(payment)
        assert captured is not None and captured.is_captured
        assert await razorpay.capture(payment) == captured
        assert await razorpay.payment(payment.id) == captured
        stand_in.book.refund(payment.id, None, 2)
        refunded = await razorpay.payment(payment.id)
        assert refunded is not None and refunded.status == "refunded" and refunded.is_captured
        assert [refund.amount for refund in await razorpay.refunds_of(payment.id)] == [50_000]


async def test_what_does_not_exist_is_none() -> None:
    async with _client(_standing(RazorpayStandIn(*KEY))) as razorpay:
        assert await razorpay.order("order_x?a=b#c") is None
        assert await razorpay.payment("pay_x") is None
        assert await razorpay.payments_of("order_x") == []


async def test_all_payments_are_listed_over_many_pages() -> None:
    stand_in = RazorpayStandIn(*KEY)
    for n in range(250):
        stand_in.book.pay(None, {"amount": n + 1}, n)
    async with _client(_standing(stand_in)) as razorpay:
        amounts = [payment.amount async for payment in razorpay.payments()]
        assert amounts == list(range(250, 0, -1))
        assert [payment.amount async for payment in razorpay.payments(since_s=248)] == [250, 249]


async def test_a_listing_that_ignores_skip_ends() -> None:
    page = [{"id": f"pay_{n}", "amount": 1, "currency": "INR", "status": "captured"} for n in range(100)]
    async with _client(_answering(lambda _: httpx2.Response(200, json={"items": page}))) as razorpay:
        assert len([payment async for payment in razorpay.payments()]) == 100


async def test_a_wrong_key_is_refused() -> None:
    async with _client(_standing(RazorpayStandIn(*KEY)), ("rzp_test", "wrong")) as razorpay:
        with pytest.raises(RazorpayRefusedError, match="401"):
            await razorpay.order("order_1")


@pytest.mark.parametrize("status", [500, 502, 429])
async def test_a_call_that_may_be_repeated_is_repeated(status: int) -> None:
    calls = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        if len(calls) < 3:
            return httpx2.Response(status)
        return httpx2.Response(200, json={"id": "order_1", "amount": 5, "notes": []})

    async with _client(_answering(answer)) as razorpay:
        order = await razorpay.order("order_1")
    assert order is not None and len(calls) == 3


@pytest.mark.parametrize("problem", [500, 504, httpx2.ReadTimeout("late"), httpx2.ReadError("reset")])
async def test_an_order_is_not_made_again_after_an_unclear_answer(problem: int | Exception) -> None:
    calls = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        if isinstance(problem, Exception):
            raise problem
        return httpx2.Response(problem)

    async with _client(_answering(answer)) as razorpay:
        with pytest.raises(RazorpayUnavailableError):
            await razorpay.create_order(50_000, "receipt", NOTES)
    assert len(calls) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"\xff", b'{"id": 5}', b""])
async def test_an_answer_that_is_not_understood_is_none(body: bytes) -> None:
    async with _client(_answering(lambda _: httpx2.Response(200, content=body))) as razorpay:
        for call in (razorpay.order("o"), razorpay.payments_of("o"), razorpay.find_order("r")):
            with pytest.raises(RazorpayUnavailableError):
                await call


async def test_silence_ends_in_time() -> None:
    async def hang(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(60)
        return httpx2.Response(200)

    async with _client(httpx2.MockTransport(hang), limit_s=0.2) as razorpay:
        started = asyncio.get_running_loop().time()
        with pytest.raises(RazorpayUnavailableError):
            await razorpay.order("order_1")
        assert asyncio.get_running_loop().time() - started < 2


async def test_being_told_to_wait_longer_than_there_is_time_ends_at_once() -> None:
    answer: Any = httpx2.Response(429, headers={"Retry-After": "60"})
    async with _client(_answering(lambda _: answer)) as razorpay:
        with pytest.raises(RazorpayUnavailableError, match="429"):
            await razorpay.order("order_1")
