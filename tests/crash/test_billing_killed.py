"""Money through crashes: the worker ends at each step of a unit that credits, debits or orders a mail."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.product.razorpay import Shop, shop

ROOT = Path(__file__).parents[2]
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


@pytest.mark.timeout(300)
def test_a_budget_is_told_of_once_although_the_worker_dies(running: Shop) -> None:
    """By mail and by webhook: both are ordered in the transaction that charges, with what the org was told."""
    assert running.metering("catalog", "apply", str(ROOT / "deploy" / "catalog.yaml")).returncode == 0
    org, point = running.signed_up("org_told"), "worker.committed"
    hook = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x"})
    assert hook["secret"].startswith("whsec_")
    key_id = running.post("/me/keys", org, {"name": "ci", "budget_inr": 0.075})["key_id"]

    _crash(running, point)
    running.request(org, key_id, *(f"told-{n}" for n in range(8)))
    _again(running)
    running.until(lambda: _spent(running, org) == Decimal("0.06"), "charged", 90)
    running.request(org, key_id, "told-8")
    running.request(org, key_id, "told-9")
    running.until(lambda: _spent(running, org) == Decimal("0.075"), "spent", 90)

    told = [(mail["about"]["kind"], mail["about"]["percent"]) for mail in running.mails(org)]
    assert told == [("budget_reached", 80), ("budget_reached", 100)]
    ids = [mail["id"] for mail in running.mails(org)]
    assert ids == [webhook["id"] for webhook in running.org_webhooks(org)]
    assert len(set(ids)) == 2


def test_an_owner_chooses_what_is_told_and_nobody_else(running: Shop) -> None:
    org = running.signed_up("org_choosing")
    assert running.get("/me/notices", org) == {
        **dict.fromkeys(("mail", "budget_reached", "statement_ready", "unusual_hour"), True),
        "webhook_host": None,
    }
    for role in ("admin", "member"):
        assert running.refused("PATCH", "/me/notices", org, {"mail": False}, role) == "403 forbidden"
        url = {"url": "https://hooks.acme.example/x"}
        assert running.refused("PUT", "/me/notices/webhook", org, url, role) == "403 forbidden"
    for wrong in ("http://hooks.acme.example/", "https://169.254.169.254/", "https://localhost/"):
        found = running.refused("PUT", "/me/notices/webhook", org, {"url": wrong})
        assert found == "400 invalid_request url"
    first = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x?token=t"})
    again = running.put("/me/notices/webhook", org, {"url": "https://hooks.acme.example/x?token=t"})
    other = {"url": "https://hooks.acme.example/x?token=t", "new_secret": True}
    assert first == again != running.put("/me/notices/webhook", org, other)
    status, off = running.call("PATCH", "/me/notices", org, {"budget_reached": False})
    assert (status, off["webhook_host"]) == (200, "hooks.acme.example")
    key_id = running.post("/me/keys", org, {"name": "ci", "budget_inr": 0.0075})["key_id"]
    running.request(org, key_id, "choosing-1")
    running.until(lambda: _spent(running, org) == Decimal("0.0075"), "charged")
    assert running.org_webhooks(org) == running.mails(org) == []
    # What holds is told once it is wanted again.
    assert running.call("PATCH", "/me/notices", org, {"budget_reached": True, "mail": False})[0] == 200
    assert [webhook["about"]["percent"] for webhook in running.org_webhooks(org)] == [100]
    assert running.mails(org) == []


def _spent(running: Shop, org: str) -> Decimal | None:
    """Return what an org's only key has spent this month, None while nobody can tell."""
    status, answer = running.call("GET", "/me/keys", org)
    return Decimal(answer["keys"][0]["spent_this_month_inr"]) if status == 200 else None


def _balance(running: Shop, org: str) -> Decimal | None:
    """Return an org's balance, None while nobody can tell."""
    status, answer = running.call("GET", "/me/billing", org)
    return Decimal(answer["balance_inr"]) if status == 200 else None
