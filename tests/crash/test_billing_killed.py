"""Money through crashes: the worker ends at each step of a unit that credits, debits or orders a mail."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.support.product.razorpay import Shop, shop

POINTS = ("worker.decided", "worker.sent", "worker.committed")


@pytest.fixture(scope="module")
def running() -> Iterator[Shop]:
    """The product; webhooks alone tell it of payments."""
    with shop(METERING_RECONCILE_EVERY_S="3600") as opened:
        yield opened


def _crash(running: Shop, point: str) -> None:
    """Have the worker end itself at the next unit's step."""
    [worker] = running.product.workers
    worker.kill()
    worker.start(crash_at=point)


def _again(running: Shop) -> None:
    """Wait for the worker's end and start another one."""
    [worker] = running.product.workers
    running.until(lambda: not worker.running, "the worker ends at its crash point", 60)
    worker.deaths += 1
    worker.start()


@pytest.mark.timeout(600)
async def test_payment_bonus_refund_and_mail_happen_once_whenever_the_worker_dies(running: Shop) -> None:
    for number, point in enumerate(POINTS):
        org = running.signed_up(f"org_{number}")
        code = f"CODE-{number}"
        assert running.metering("promo", "create", code, "--bonus-inr", "50").returncode == 0
        running.put("/me/billing/threshold", org, {"threshold_inr": 200})
        running.hooks(copies=2)
        order_id = running.ordered(org, 100, promo_code=code)

        _crash(running, point)
        payment_id = running.pay(order_id)["payment"]["id"]
        _again(running)
        running.until(lambda org=org: _balance(running, org) == 250, f"{point}: credited", 90)  # type: ignore[misc]

        _crash(running, point)
        running.at_razorpay(f"/v1/payments/{payment_id}/refund")
        _again(running)
        running.until(lambda org=org: _balance(running, org) == 150, f"{point}: debited", 90)  # type: ignore[misc]

        entries = [(entry["kind"], entry["amount_inr"]) for entry in running.entries(org)]
        assert entries == [("refund", -100), ("promo", 50), ("topup", 100), ("promo", 100)]
    report = await running.product.verify()
    assert report.differences == []
    assert sum(worker.deaths for worker in running.product.workers) == 4 * len(POINTS)


def test_the_mails_of_it_were_ordered_once_each(running: Shop) -> None:
    for number in range(len(POINTS)):
        # The first for a threshold above the signup credit; the fall after the refund is within 24 hours.
        assert len(running.mails(f"org_{number}")) == 1


def _balance(running: Shop, org: str) -> Decimal | None:
    """Return an org's balance, None while nobody can tell."""
    status, answer = running.call("GET", "/me/billing", org)
    return Decimal(answer["balance_inr"]) if status == 200 else None
