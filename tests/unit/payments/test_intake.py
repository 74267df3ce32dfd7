"""What Razorpay tells reaches the accounts: the intake, the pollers and `settle` with the stand-in and real rules.

Kafka alone is left out: a command is carried out at once in a unit of work.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import msgspec
import pytest

from pipeline.accounts.commands import AccountCommand, CommandRefusal, NoteStray, R, answer_of, decode_reply
from pipeline.connection import KafkaConnection
from pipeline.kafka.commands import CommandClient
from pipeline.payments.intake import PaymentIntake
from pipeline.payments.order_index import OrderIndex
from pipeline.payments.returns_poller import HOUR_MS, ReturnsPoller
from pipeline.payments.settling import NotSettledError, settle
from pipeline.razorpay.client import CALL_LIMIT_S, RazorpayClient
from pipeline.standin.razorpay import RazorpayStandIn, create_app
from tests.support.billing import ORG, RUPEE, Shop
from tests.support.builders import COMMAND_KEYS, NOW_MS

KEY = ("rzp_test", "secret")
NOW_S = NOW_MS // 1000


class _AtOnce(CommandClient):
    """Carries commands out in the books, as the owner of every account."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(KafkaConnection("nowhere:1"), COMMAND_KEYS)
        self._shop = shop

    async def send(self, command: AccountCommand[R], limit_s: float = 0) -> R | CommandRefusal:  # noqa: ARG002
        reply = decode_reply(msgspec.json.encode(self._shop.do(command)))
        return answer_of(type(command), reply)

    async def note(self, command: NoteStray, limit_s: float = 0) -> None:  # noqa: ARG002
        self._shop.do(command)


@dataclass
class _World:
    stand_in: RazorpayStandIn
    razorpay: RazorpayClient
    shop: Shop
    intake: PaymentIntake

    def order(self, rupees: int = 500) -> str:
        """Return an order that both sides know; the index does not, so Razorpay is asked whose it is."""
        made = self.stand_in.book.create_order({"amount": rupees * 100, "notes": {"org": ORG}}, NOW_S)
        self.shop.order(made["id"], rupees)
        return str(made["id"])

    def pay(self, order_id: str | None = None, **how: object) -> str:
        return str(self.stand_in.book.pay(order_id or self.order(), how, NOW_S)["id"])

    def poller(self) -> ReturnsPoller:
        return ReturnsPoller(self.intake, self.razorpay)


@asynccontextmanager
async def _world(limit_s: float = CALL_LIMIT_S) -> AsyncIterator[_World]:
    """A world in which a call to Razorpay is given up after the limit."""
    stand_in, shop = RazorpayStandIn(*KEY), Shop()
    transport = httpx2.ASGITransport(create_app(stand_in))
    razorpay = RazorpayClient("http://razorpay/v1", *KEY, limit_s=limit_s, transport=transport)
    yield _World(stand_in, razorpay, shop, PaymentIntake(_AtOnce(shop), razorpay, OrderIndex()))
    await razorpay.close()


@pytest.mark.parametrize("how", [{"fee": 1_180}, {"offer": 5_000}])
async def test_an_order_that_razorpay_calls_paid_credits_what_was_ordered(how: dict[str, int]) -> None:
    async with _world() as world:
        order_id = world.order()
        world.pay(order_id, **how)
        assert await world.intake.ask(order_id) == "captured"
        assert world.shop.balance_nano() == 600 * RUPEE


async def test_a_payment_of_another_amount_is_told_of_once_and_settled_by_hand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with _world() as world:
        order_id = world.order()
        payment_id = world.pay(order_id, amount=30_000)
        for _ in range(3):
            assert await world.intake.ask(order_id) == "mismatched"
        assert [record.levelno for record in caplog.records if payment_id in record.message] == [
            logging.ERROR
        ]
        settled = await settle(world.intake, world.razorpay, payment_id)
        assert (settled.status, settled.refunds, settled.disputes) == ("captured", {}, {})
        assert await world.intake.ask(order_id) == "captured"
        assert world.shop.entries() == [("promo", 100), ("topup", 300)]


async def test_settle_posts_refunds_and_lost_disputes_once() -> None:
    async with _world() as world:
        payment_id = world.pay()
        refund = world.stand_in.book.refund(payment_id, 10_000, NOW_S)["id"]
        dispute = world.stand_in.book.dispute(payment_id, 5_000, NOW_S)["id"]
        world.stand_in.book.move_dispute(dispute, "lost", NOW_S)
        for _ in range(2):
            settled = await settle(world.intake, world.razorpay, payment_id)
            assert settled.refunds == {refund: "debited"} and settled.disputes == {dispute: "lost"}
        assert sorted(world.shop.entries()) == [
            ("dispute", -50),
            ("promo", 100),
            ("refund", -100),
            ("topup", 500),
        ]


async def test_what_cannot_be_settled_says_why() -> None:
    async with _world() as world:
        with pytest.raises(NotSettledError, match="knows no payment"):
            await settle(world.intake, world.razorpay, "pay_nobody")
        stray = str(world.stand_in.book.pay(None, {}, NOW_S)["id"])
        with pytest.raises(NotSettledError, match="none of our orders"):
            await settle(world.intake, world.razorpay, stray)
        with pytest.raises(NotSettledError, match="USD"):
            await settle(world.intake, world.razorpay, world.pay(currency="USD"))


async def test_refunds_and_disputes_that_nobody_told_of_are_found_and_taken_in_once() -> None:
    async with _world() as world:
        poller, book = world.poller(), world.stand_in.book
        payment_id = world.pay()
        refund = book.refund(payment_id, 10_000, NOW_S)["id"]
        dispute = book.dispute(payment_id, 5_000, NOW_S)["id"]
        await poller.look(NOW_MS)
        assert world.shop.balance_nano() == 500 * RUPEE
        asked = len(world.stand_in.calls)
        await poller.look(NOW_MS)
        # Both lists, and nothing for what is in the state that it was taken in.
        assert world.stand_in.calls[asked:] == ["GET /v1/refunds", "GET /v1/disputes"]
        book.end_refund(refund, "failed", NOW_S)
        book.move_dispute(dispute, "lost", NOW_S)
        await poller.look(NOW_MS)
        assert world.shop.balance_nano() == 550 * RUPEE
        book.move_dispute(dispute, "reversed", NOW_S)
        # Too old for each look by then, but not for the hourly one.
        await poller.look(NOW_MS + 2 * HOUR_MS)
        assert world.shop.balance_nano() == 600 * RUPEE


async def test_a_look_that_failed_is_made_again_as_far_back() -> None:
    async with _world(limit_s=0.2) as world:
        world.pay()
        world.stand_in.book.refund(world.pay(), 10_000, NOW_S - 30 * 24 * 3600)
        poller = world.poller()
        world.stand_in.fail_next = 1_000
        await poller.look(NOW_MS)
        world.stand_in.fail_next = 0
        await poller.look(NOW_MS)
        assert ("refund", -100) in world.shop.entries()


async def test_where_refunds_are_not_listed_the_payments_own_are_looked_at() -> None:
    async with _world() as world:
        payment_id = world.pay()
        made = world.stand_in.book.refund(payment_id, 10_000, NOW_S)["id"]
        app = create_app(world.stand_in)

        async def without_the_list(scope: object, receive: object, send: object) -> None:
            path = scope["path"]  # type: ignore[index]
            if path == "/v1/refunds":
                scope["path"] = "/v1/unknown/x"  # type: ignore[index]
            await app(scope, receive, send)  # type: ignore[arg-type]

        razorpay = RazorpayClient(
            "http://razorpay/v1", *KEY, transport=httpx2.ASGITransport(without_the_list)
        )
        assert [refund.id async for refund in razorpay.refunds(NOW_S - 60)] == [made]
        await razorpay.close()
