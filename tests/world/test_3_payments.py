"""What payers, banks and operators do to top-ups: each payment, refund, dispute and credit counts once."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from typing import Any

import pytest

from pipeline.api.http.sessions import issue
from tests.support.product.processes import SESSION_SECRET
from tests.support.product.world import World

SILENT = {"lost": ["*"]}
OTHER_SECRET = "another-session-secret-of-the-tests-01"


def _paid(world: World, org: str, rupees: int = 500, **how: object) -> str:
    payment_id: str = world.shop.pay(world.shop.ordered(org, rupees), **how)["payment"]["id"]
    return payment_id


def _topped_up(world: World, org: str) -> str:
    """Return a payment of 500 rupees that is credited."""
    payment_id = _paid(world, org)
    world.balances[org] += 500
    world.agrees(org)
    return payment_id


def _problems(world: World, payment_id: str) -> list[str]:
    done = world.shop.metering("reconcile")
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["mismatches"] else 0), done.stderr
    return [m["problem"] for m in report["mismatches"] if m["payment_id"] == payment_id]


def _is_reported(world: World, payment_id: str) -> bool:
    return _problems(world, payment_id) == ["not_credited"]


def _tell(world: World, told: str, **entities: Any) -> None:
    """Send a webhook that comes late."""
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    assert world.shop.webhook({"entity": "event", "event": told, "payload": payload}) == 200


@pytest.mark.parametrize(("how", "paid"), [({"fee": 1_180}, "511.8"), ({"offer": 5_000}, "450")])
def test_what_was_ordered_is_credited_and_the_receipt_shows_both(
    world: World, how: dict[str, int], paid: str
) -> None:
    org = world.org(f"org_{next(iter(how))}")
    world.shop.hooks()
    payment_id = _paid(world, org, **how)
    world.balances[org] += 500
    world.agrees(org)
    receipt = world.shop.get(f"/me/billing/receipts/{payment_id}", org)
    assert (str(receipt["amount_inr"]), str(receipt["credited_inr"])) == (paid, "500")
    world.shop.hooks(**SILENT)
    world.shop.at_razorpay(f"/v1/payments/{payment_id}/refund")
    world.balances[org] -= 500
    world.agrees(org)
    receipt = world.shop.get(f"/me/billing/receipts/{payment_id}", org)
    assert str(receipt["refunded_inr"]) == paid


def test_another_amount_is_reported_until_it_is_settled_or_went_back(world: World) -> None:
    org = world.org("org_wrong")
    world.shop.hooks(**SILENT)
    settled, went_back = (_paid(world, org, amount=30_000) for _ in range(2))
    for payment_id in (settled, went_back):
        world.shop.until(partial(_is_reported, world, payment_id), "it is reported")
    for _ in range(2):
        assert world.metering("settle", settled)["status"] == "captured"
    world.balances[org] += 300
    world.agrees(org)
    _tell(world, "payment.captured", payment=world.shop.asked(f"/v1/payments/{settled}"))
    world.shop.at_razorpay(f"/v1/payments/{went_back}/refund")
    world.agrees(org)
    assert _problems(world, settled) == _problems(world, went_back) == []


def test_a_refund_that_nobody_told_of_is_posted_once(world: World) -> None:
    org = world.org("org_refund")
    world.shop.hooks(**SILENT)
    payment_id = _topped_up(world, org)
    refund = world.shop.refund(payment_id, 20_000)
    world.balances[org] -= 200
    world.agrees(org)
    _tell(world, "refund.processed", refund=refund, payment=world.shop.asked(f"/v1/payments/{payment_id}"))
    world.shop.at_razorpay(f"/control/refunds/{refund['id']}/failed")
    world.balances[org] += 200
    world.agrees(org)


@pytest.mark.parametrize("manners", [{"copies": 2, "reversed": True}, SILENT], ids=["webhooks", "silent"])
def test_disputes_come_and_go_in_any_order(world: World, manners: dict[str, Any]) -> None:
    org = world.org(f"org_dispute_{len(manners)}")
    world.shop.hooks(**manners)
    payment_id = _topped_up(world, org)
    dispute = world.shop.at_razorpay("/control/disputes", {"payment_id": payment_id, "amount": 30_000})
    receipt = f"/me/billing/receipts/{payment_id}"
    world.shop.until(lambda: world.shop.get(receipt, org)["in_dispute_inr"] == 300, "it is on the receipt")
    open_ones = world.metering("reconcile")["open_disputes"]
    assert dispute["id"] in [one["dispute_id"] for one in open_ones]
    for step, inr in (("lost", -300), ("reversed", 300)):
        world.shop.at_razorpay(f"/control/disputes/{dispute['id']}/{step}")
        world.balances[org] += inr
        world.agrees(org)
    assert world.metering("settle", payment_id)["payment_id"] == payment_id
    world.agrees(org)


def test_a_credit_is_safe_to_repeat(world: World) -> None:
    org = world.org("org_credit")
    credit = ("credit", org, "--inr", "50", "--reason", "goodwill")
    for _ in range(2):
        world.metering(*credit, "--idempotency-key", "K")
    world.balances[org] += 50
    world.worker.kill()
    words = world.metering(*credit, code=1)
    [key] = re.findall(r"^--idempotency-key (\w+)$", words, re.MULTILINE)
    world.restart(world.worker)
    world.metering(*credit, "--idempotency-key", key)
    world.balances[org] += 50
    world.agrees(org)


def test_while_the_server_is_away_a_refund_is_corrected_and_its_secret_is_renewed(world: World) -> None:
    """The correction names the refund, which the server finds later; the key of before cannot be shown again."""
    org, body = world.org("org_renewed"), {"name": "k"}
    world.shop.hooks(**SILENT)
    payment_id = _topped_up(world, org)
    made = world.shop.post("/me/keys", org, body, Idempotency_Key="once")
    assert world.shop.post("/me/keys", org, body, Idempotency_Key="once") == made
    server = world.product.server
    assert server is not None
    server.kill()
    refund = world.shop.refund(payment_id, 20_000)
    correction = ("credit", org, "--inr", "-200", "--reason", "by hand", "--for", refund["id"])
    world.metering(*correction)
    world.balances[org] -= 200
    try:
        world.restart(server, METERING_SESSION_SECRET=OTHER_SECRET)
        token = issue(OTHER_SECRET, org, "owner", "o@x.example", int(time.time() * 1000))
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
        again = world.shop.http.post("/me/keys", json=body, headers=headers)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "key_shown_before")
    finally:
        world.restart(server, METERING_SESSION_SECRET=SESSION_SECRET)
    payment = world.shop.asked(f"/v1/payments/{payment_id}")
    _tell(world, "refund.processed", refund=refund, payment=payment)
    assert "has had its effect" in world.metering(*correction, code=1)
    world.agrees(org)
    assert world.shop.get(f"/me/billing/receipts/{payment_id}", org)["refunded_inr"] == 200
    assert _problems(world, payment_id) == []
