"""What real payers, banks and operators do to a top-up, over the real product and a stand-in for Razorpay alone."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from pipeline.accounts.keys import KEYS_A_DAY
from pipeline.accounts.orders import UNPAID_MAX
from pipeline.api.http.sessions import issue
from pipeline.posting.answers import ANSWERS_AN_ORG
from tests.fuzz.doors import UNLIMITED, fuzz_doors
from tests.fuzz.posted import fuzz_topics
from tests.support.product.processes import OPERATOR_TOKEN
from tests.support.product.razorpay import Shop, shop

SILENT = {"lost": ["*"]}


@pytest.fixture(scope="module")
def running() -> Iterator[Shop]:
    """The product, with a reconciler that takes part in every test."""
    with shop(METERING_RECONCILE_EVERY_S="2", **UNLIMITED) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _settings_of_nobody() -> None:
    """The processes here get their settings from the shop."""


def _org(running: Shop, numbers: Iterator[int] = itertools.count(1)) -> str:  # noqa: B008
    return running.signed_up(f"org_{next(numbers)}")


def _paid(running: Shop, org: str, rupees: int = 500, **how: object) -> str:
    """Return the id of a payment, its order's callback and webhooks lost unless the test lets them through."""
    payment_id: str = running.pay(running.ordered(org, rupees), **how)["payment"]["id"]
    return payment_id


def _reconciled(running: Shop) -> Any:
    from pipeline.api.routes.operator import TOKEN_HEADER

    answer = running.http.post("/operator/reconcile", headers={TOKEN_HEADER: OPERATOR_TOKEN})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)


def _problems(running: Shop, payment_id: str) -> list[str]:
    return [m["problem"] for m in _reconciled(running)["mismatches"] if m["payment_id"] == payment_id]


def _tell(running: Shop, event: str, **entities: Any) -> None:
    """Send a webhook that comes late."""
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    assert running.webhook({"entity": "event", "event": event, "payload": payload}) == 200


@pytest.mark.parametrize("webhooks", [{}, SILENT], ids=["webhook", "reconciler"])
@pytest.mark.parametrize(
    ("how", "paid"), [({"fee": 1_180}, Decimal("511.8")), ({"offer": 5_000}, 450)], ids=["fee", "offer"]
)
def test_what_was_ordered_is_credited_where_the_order_is_paid_and_the_receipt_shows_both(
    running: Shop, how: dict[str, Any], paid: Decimal, webhooks: dict[str, Any]
) -> None:
    org = _org(running)
    running.hooks(**webhooks)
    payment_id = _paid(running, org, 500, **how)
    running.until(lambda: running.balance(org) == 600, "the order is credited")
    receipt = running.get(f"/me/billing/receipts/{payment_id}", org)
    assert (receipt["amount_inr"], receipt["credited_inr"]) == (paid, 500)
    running.hooks(**SILENT)
    running.at_razorpay(f"/v1/payments/{payment_id}/refund")
    running.until(lambda: running.balance(org) == 100, "all of it went back")
    assert running.get(f"/me/billing/receipts/{payment_id}", org)["refunded_inr"] == paid
    assert _problems(running, payment_id) == []


def test_a_payment_of_another_amount_is_reported_and_settled_once_somebody_decided(running: Shop) -> None:
    org = _org(running)
    running.hooks()
    payment_id = _paid(running, org, 500, amount=30_000)
    running.until(lambda: _problems(running, payment_id) == ["not_credited"], "it is reported")
    assert running.balance(org) == 100
    for _ in range(2):
        settled = running.metering("settle", payment_id)
        assert settled.returncode == 0, settled.stderr
        assert json.loads(settled.stdout)["status"] == "captured"
        assert running.balance(org) == 400
    payment = running.asked(f"/v1/payments/{payment_id}")
    _tell(running, "payment.captured", payment=payment)
    assert [entry["amount_inr"] for entry in running.entries(org)] == [300, 100]
    assert _problems(running, payment_id) == []
    unknown = running.metering("settle", "pay_nobody")
    assert unknown.returncode == 1 and "knows no payment" in unknown.stderr


def test_a_wrong_payment_that_was_refunded_in_full_is_settled_and_is_told_of_once(running: Shop) -> None:
    org = _org(running)
    running.hooks(**SILENT)
    payment_id = _paid(running, org, 500, amount=30_000)
    stray = running.pay(None, amount=12_300)["payment"]
    _tell(running, "payment.captured", payment=stray)
    running.until(lambda: _problems(running, payment_id) == ["not_credited"], "it is reported")
    assert _problems(running, stray["id"]) == ["not_ours"]
    for refunded in (payment_id, stray["id"]):
        running.at_razorpay(f"/v1/payments/{refunded}/refund")
    asked = f"GET /v1/orders/{running.asked(f'/v1/payments/{payment_id}')['order_id']}/payments"
    before = running.control.get("/control/calls").json()["calls"].count(asked)
    running.until(
        lambda: running.control.get("/control/calls").json()["calls"].count(asked) >= before + 3,
        "the order is asked about again and again",
    )
    assert _problems(running, payment_id) == [] and _problems(running, stray["id"]) == []
    server = running.product.server
    assert server is not None
    told = [line for line in server.words().splitlines() if payment_id in line and "does not match" in line]
    assert len(told) == 1, told
    assert running.balance(org) == 100


def test_a_refund_whose_webhook_was_lost_is_found_and_a_late_webhook_has_no_second_effect(
    running: Shop,
) -> None:
    org = _org(running)
    running.hooks(**SILENT)
    payment_id = _paid(running, org)
    running.until(lambda: running.balance(org) == 600, "the reconciler credits")
    refund = running.refund(payment_id, 20_000)
    running.until(lambda: running.balance(org) == 400, "the reconciler finds the refund")
    payment = running.asked(f"/v1/payments/{payment_id}")
    _tell(running, "refund.processed", refund=refund, payment=payment)
    assert running.balance(org) == 400 and len(running.entries(org, "refund")) == 1
    assert running.get(f"/me/billing/receipts/{payment_id}", org)["refunded_inr"] == 200
    # One that fails later, unheard too, is given back.
    running.at_razorpay(f"/control/refunds/{refund['id']}/failed")
    running.until(lambda: running.balance(org) == 600, "the reconciler finds that it failed")
    assert _problems(running, payment_id) == []


def test_a_refund_that_a_correction_named_has_no_second_effect(running: Shop) -> None:
    org = _org(running)
    running.hooks(**SILENT)
    payment_id = _paid(running, org)
    running.until(lambda: running.balance(org) == 600, "the reconciler credits")
    correction = ("credit", org, "--inr", "-200", "--reason", "refunded by hand", "--for", "rfnd_by_hand")
    assert running.metering(*correction).returncode == 0
    assert running.balance(org) == 400
    refund = {"id": "rfnd_by_hand", "payment_id": payment_id, "amount": 20_000, "currency": "INR"}
    payment = {**running.asked(f"/v1/payments/{payment_id}"), "amount_refunded": 20_000}
    for _ in range(2):
        _tell(running, "refund.processed", refund=refund, payment=payment)
    assert running.balance(org) == 400 and running.entries(org, "refund") == []
    assert running.get(f"/me/billing/receipts/{payment_id}", org)["refunded_inr"] == 200
    again = running.metering(*correction)
    assert again.returncode == 1 and "has had its effect" in again.stderr


def _receipt(running: Shop, org: str, payment_id: str) -> tuple[int, int]:
    receipt = running.get(f"/me/billing/receipts/{payment_id}", org)
    return receipt["disputed_inr"], receipt["in_dispute_inr"]


@pytest.mark.parametrize("manners", [{"copies": 2, "reversed": True}, SILENT], ids=["webhooks", "reconciler"])
def test_a_dispute_is_seen_while_it_is_open_and_debited_once_where_it_is_lost(
    running: Shop, manners: dict[str, Any]
) -> None:
    org = _org(running)
    running.hooks()
    payment_id = _paid(running, org)
    running.until(lambda: running.balance(org) == 600, "it is credited")
    running.hooks(**manners)
    dispute = running.at_razorpay("/control/disputes", {"payment_id": payment_id, "amount": 30_000})
    running.until(lambda: _receipt(running, org, payment_id) == (0, 300), "the receipt shows it")
    [opened] = [d for d in _reconciled(running)["open_disputes"] if d["payment_id"] == payment_id]
    assert opened == {
        "dispute_id": dispute["id"],
        "payment_id": payment_id,
        "org": org,
        "amount_paise": 30_000,
    }
    assert running.balance(org) == 600
    running.at_razorpay(f"/control/disputes/{dispute['id']}/lost")
    running.until(lambda: running.balance(org) == 300, "the lost dispute is debited")
    assert _receipt(running, org, payment_id) == (300, 0)
    [entry] = running.entries(org, "dispute")
    assert (entry["amount_inr"], entry["payment_id"]) == (-300, payment_id)
    settled = running.metering("settle", payment_id)
    assert settled.returncode == 0 and json.loads(settled.stdout)["disputes"] == {dispute["id"]: "lost"}
    assert running.balance(org) == 300
    running.at_razorpay(f"/control/disputes/{dispute['id']}/reversed")
    running.until(lambda: running.balance(org) == 600, "the reversed dispute is given back")
    assert [entry["amount_inr"] for entry in running.entries(org, "dispute")] == [300, -300]
    assert _problems(running, payment_id) == []


def test_settle_posts_what_nobody_told_of(running: Shop) -> None:
    """The server of this product is away, so settle alone finds the payment, its refund and its lost dispute."""
    org = _org(running)
    running.hooks(**SILENT)
    server = running.product.server
    assert server is not None
    order_id = running.ordered(org, 500)
    server.kill()
    payment_id = running.pay(order_id)["payment"]["id"]
    refund = running.refund(payment_id, 10_000)
    dispute = running.at_razorpay("/control/disputes", {"payment_id": payment_id, "amount": 5_000})
    running.at_razorpay(f"/control/disputes/{dispute['id']}/lost")
    settled = running.metering("settle", payment_id)
    assert settled.returncode == 0, settled.stderr
    assert json.loads(settled.stdout) == {
        "payment_id": payment_id,
        "status": "captured",
        "refunds": {refund["id"]: "debited"},
        "disputes": {dispute["id"]: "lost"},
    }
    server.start()
    running.until(lambda: _is_healthy(running), "the server is back", 60)
    assert running.balance(org) == 450
    assert _problems(running, payment_id) == []


def _is_healthy(running: Shop) -> bool:
    try:
        return running.http.get("/healthz").status_code == 200
    except Exception:  # noqa: BLE001 - it is being started
        return False


def test_a_credit_is_safe_to_repeat_even_where_nobody_answered(running: Shop) -> None:
    org = _org(running)
    credit = ("credit", org, "--inr", "50", "--reason", "goodwill")
    for _ in range(2):
        assert running.metering(*credit, "--idempotency-key", "K").returncode == 0
    other = running.metering(*credit[:3], "51", *credit[4:], "--idempotency-key", "K")
    assert other.returncode == 1 and "another" in other.stderr
    [worker] = running.product.workers
    worker.kill()
    unanswered = running.metering(*credit, answer_limit_s=1)
    assert unanswered.returncode == 1
    made, _, rest = unanswered.stderr.partition("\n")
    [key] = re.findall(r"^--idempotency-key (\w+)$", made)
    assert f"Repeat it with --idempotency-key {key}" in rest
    worker.start()
    running.until(lambda: _is_healthy(running), "the worker is back", 60)
    again = running.metering(*credit, "--idempotency-key", key)
    assert again.returncode == 0 and again.stderr == ""
    assert running.balance(org) == 200
    assert [entry["amount_inr"] for entry in running.entries(org, "correction")] == [50, 50]


def test_a_key_that_cannot_be_shown_again_after_the_secret_changed_is_refused_not_invented(
    running: Shop,
) -> None:
    org = _org(running)
    body = {"name": "k"}
    made = running.post("/me/keys", org, body, Idempotency_Key="once")
    assert running.post("/me/keys", org, body, Idempotency_Key="once")["key"] == made["key"]
    server = running.product.server
    assert server is not None
    old = server.environment["METERING_SESSION_SECRET"]
    new = "another-session-secret-of-the-tests"
    server.kill()
    server.environment["METERING_SESSION_SECRET"] = new
    server.start()
    try:
        running.until(lambda: _is_healthy(running), "the server is back", 60)
        token = issue(new, org, "owner", "o@x.example", int(time.time() * 1000))
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
        again = running.http.post("/me/keys", json=body, headers=headers)
        assert again.status_code == 409
        assert again.json()["error"]["code"] == "key_shown_before"
        assert again.json()["error"]["param"] == "Idempotency-Key"
        fresh = running.http.post(
            "/me/keys", json={"name": "k2"}, headers={**headers, "Idempotency-Key": "2"}
        )
        assert fresh.status_code == 200
    finally:
        server.kill()
        server.environment["METERING_SESSION_SECRET"] = old
        server.start()
        running.until(lambda: _is_healthy(running), "the server is back", 60)


def test_an_org_makes_so_many_keys_and_unpaid_orders_a_day_and_no_more(running: Shop) -> None:
    org = _org(running)
    for number in range(KEYS_A_DAY):
        tier = "trial" if number % 2 else "standard"
        made = running.post("/me/keys", org, {"name": f"k{number}", "tier": tier})
        # Revoking one makes no room for another.
        assert running.call("PATCH", f"/me/keys/{made['key_id']}", org, {"revoked": True})[0] == 200
    assert running.refused("POST", "/me/keys", org, {"name": "more"}) == "429 rate_limit_exceeded"
    orders = [running.ordered(org) for _ in range(UNPAID_MAX)]
    assert (
        running.refused("POST", "/me/billing/orders", org, {"amount_inr": 500}) == "429 rate_limit_exceeded"
    )
    running.hooks()
    running.pay(orders[0])
    running.until(lambda: running.balance(org) == 600, "one of them is paid")
    running.ordered(org)
    assert (
        running.refused("POST", "/me/billing/orders", org, {"amount_inr": 500}) == "429 rate_limit_exceeded"
    )
    assert running.call("GET", "/me/keys", _org(running))[0] == 200


def test_idempotency_keys_hold_however_many_come_after_and_what_is_beyond_is_refused(running: Shop) -> None:
    org = _org(running)
    running.hooks()
    first = {"amount_inr": 100, "promo_code": None}
    order = running.post("/me/billing/orders", org, first, Idempotency_Key="first")
    paid = running.pay(order["order_id"])
    callback = {name: value for name, value in paid.items() if name.startswith("razorpay_")}

    def verify(key: str) -> int:
        status, answer = running.call("POST", "/me/billing/verify", org, callback, Idempotency_Key=key)
        assert status in (200, 429), answer
        return status

    # The order took one key and its opening another.
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(verify, (f"v{number}" for number in range(ANSWERS_AN_ORG + 20))))
    assert statuses.count(200) == ANSWERS_AN_ORG - 2
    assert running.post("/me/billing/orders", org, first, Idempotency_Key="first") == order
    assert len(running.orders(org)) == 1
    changed = running.call("POST", "/me/billing/orders", org, {"amount_inr": 200}, Idempotency_Key="first")
    assert (changed[0], changed[1]["error"]["param"]) == (400, "Idempotency-Key")
    assert running.balance(org) == 200


async def test_the_books_agree_after_all_of_it(running: Shop) -> None:
    report = await running.product.verify()
    assert report.differences == [] and report.ledger_entries > 5
    # What the payment of the correction's test says at Razorpay was made up there.
    assert {m["problem"] for m in _reconciled(running)["mismatches"]} <= {"refund"}


def test_malformed_requests_fail_hang_and_reset_nothing_and_the_books_add_up(running: Shop) -> None:
    """The same as `make fuzz FUZZ='--requests N'`, in a number that fits here."""
    fuzzed = fuzz_doors(running, requests=800, documented=0, seed=1)
    assert fuzzed.wrong == []
    assert {200, 400, 401, 404, 405} <= fuzzed.statuses.keys()


def test_spoilt_records_end_nothing_and_the_books_add_up(running: Shop) -> None:
    """The same as `make fuzz FUZZ='--posted N'`, in a number that fits here."""
    fuzzed = fuzz_topics(running, records=3_000, seed=1)
    assert fuzzed.wrong == []
    reasons = ("malformed", "invalid", "unpriced")
    assert all(fuzzed.kinds[f"dead letters: {reason}, metering.requests"] for reason in reasons), fuzzed.kinds
    assert fuzzed.kinds["dead letters: unauthenticated, metering.billing"]
    assert min(fuzzed.kinds[name] for name in ("requests posted", "duplicates", "moved")) > 50
