"""A payment is credited once, by whichever path it becomes known, and only where it matches its order."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.commands import Capture, CheckPromo, FoundOrder, PrepareOrder, SetAddress, result_of
from pipeline.accounts.payments import Payment
from pipeline.accounts.results import PaymentTaken
from pipeline.ist import DAY_MS
from tests.support.billing import ORDER, ORG, PAYMENT, RUPEE, Shop, capture, fail, refund
from tests.support.builders import EXAMPLES, NOW_MS, everything

SIGNUP, TOPUP, BONUS = ("promo", 100), ("topup", 500), ("promo", 50)
PATHS = ("callback", "payment.captured", "order.paid", "reconciler", "duplicate webhook", "replay")


def _message(path: str) -> tuple[Capture, int]:
    """Return the command that a path sends, and when it comes."""
    # The callback came with an Idempotency-Key, so its answer is remembered by its own id.
    named = {"fingerprint": "a"} if path == "callback" else {}
    at_ms = NOW_MS + 7 * DAY_MS if path == "replay" else NOW_MS
    return capture(path, **named), at_ms


def test_all_720_orders_of_the_paths_credit_once() -> None:
    orders = list(itertools.permutations(PATHS))
    assert len(orders) == 720
    for paths in orders:
        shop = Shop()
        shop.promo()
        shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
        replies = [shop.do(*_message(path)) for path in paths]
        assert shop.entries() == [SIGNUP, TOPUP, BONUS], paths
        assert [reply["result"]["credited"] for reply in replies] == [True] + [False] * 5
        assert {reply["result"]["balance_nano"] for reply in replies} == {650 * RUPEE}
        assert shop.balance_nano() == 650 * RUPEE


@EXAMPLES
@given(st.lists(st.sampled_from([*PATHS, "failed"]), max_size=12), st.integers(0, 11))
def test_failures_before_and_after_and_units_of_any_size_change_nothing(paths: list[str], cut: int) -> None:
    shop = Shop()
    shop.order()
    messages = [fail(f"f{i}") if p == "failed" else capture(f"{p}{i}") for i, p in enumerate(paths)]
    for part in (messages[:cut], messages[cut:]):
        if part:
            shop.send(*part)
    credited = any(path != "failed" for path in paths)
    assert shop.entries() == ([SIGNUP, TOPUP] if credited else [SIGNUP])
    assert everything(shop.restore()) == everything(shop.state)


def test_failed_and_then_captured_is_credited() -> None:
    shop = Shop()
    shop.order()
    assert shop.do(fail())["result"] == {"status": "failed"}
    assert shop.do(capture())["result"]["status"] == "captured"
    assert shop.do(fail("late"))["result"] == {"status": "captured"}
    assert shop.entries() == [SIGNUP, TOPUP]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amount_paise": 49_999}, "49999 paise"),
        ({"amount_paise": 0}, "0 paise"),
        ({"amount_paise": -50_000}, "-50000 paise"),
        ({"currency": "USD"}, "USD"),
        ({"order_id": "order_2"}, "no such order"),
        ({"order_id": "order_2", "order": FoundOrder(10_000)}, "50000 paise, the order over 10000"),
    ],
)
def test_what_does_not_match_is_kept_and_not_credited(changes: dict[str, Any], words: str) -> None:
    shop = Shop()
    shop.order()
    for n in range(2):
        assert shop.do(capture(str(n), **changes))["result"]["status"] == "mismatched"
    assert shop.entries() == [SIGNUP]
    kept = shop.state.payment(PAYMENT)
    assert kept is not None and kept.status == "mismatched" and words in kept.problem
    assert shop.do(capture("right"))["result"]["status"] == "captured"
    assert shop.entries() == [SIGNUP, TOPUP]


@pytest.mark.parametrize(("paise", "why"), [(51_180, "the payer bears the fee"), (45_000, "an offer")])
def test_what_was_ordered_is_credited_where_razorpay_says_that_the_order_is_paid(
    paise: int, why: str
) -> None:
    shop = Shop()
    shop.promo()
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    assert shop.do(capture("not yet", amount_paise=paise))["result"]["status"] == "mismatched"
    for n in range(3):
        paid = shop.do(capture(str(n), amount_paise=paise, order_paid=True))
        assert paid["result"] == {"status": "captured", "balance_nano": 650 * RUPEE, "credited": n == 0}, why
    assert shop.entries() == [SIGNUP, TOPUP, BONUS]
    kept = shop.state.payment(PAYMENT)
    assert kept is not None and (kept.amount_paise, kept.credited_paise) == (paise, 50_000)


@pytest.mark.parametrize(("paise", "refunded", "rupees"), [(51_180, 51_180, 500), (45_000, 45_000, 500)])
def test_all_of_such_a_payment_refunded_takes_all_of_its_credit(
    paise: int, refunded: int, rupees: int
) -> None:
    shop = Shop()
    shop.order()
    shop.do(capture(amount_paise=paise, order_paid=True))
    shop.do(refund(amount_paise=refunded))
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -rupees)]


def test_an_order_that_another_payment_paid_says_nothing_of_one_of_another_amount() -> None:
    shop = Shop()
    shop.order()
    shop.do(capture())
    odd = capture("odd", payment_id="pay_2", amount_paise=100, order_paid=True)
    assert shop.do(odd)["result"]["status"] == "mismatched"
    usd = capture("usd", payment_id="pay_3", currency="USD", order_paid=True)
    assert shop.do(usd)["result"]["status"] == "mismatched"
    assert shop.entries() == [SIGNUP, TOPUP]


def test_a_mismatch_is_noted_once_and_credited_as_paid_once_it_is_settled() -> None:
    shop = Shop()
    shop.promo()
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    noted = [shop.do(capture(str(n), amount_paise=30_000))["result"].get("noted", False) for n in range(3)]
    assert noted == [True, False, False]
    for n in range(2):
        settled = shop.do(capture(f"s{n}", amount_paise=30_000, settled=True))
        assert settled["result"]["status"] == "captured"
    assert shop.do(capture("late webhook", amount_paise=30_000))["result"]["status"] == "captured"
    assert shop.entries() == [SIGNUP, ("topup", 300)]
    assert "the order is over 50000 paise" in shop.ledger[-1][2]
    usd = capture("usd", payment_id="pay_2", currency="USD", settled=True)
    assert shop.do(usd)["result"]["status"] == "mismatched"


def test_an_order_that_was_lost_here_is_taken_from_razorpay() -> None:
    shop = Shop()
    shop.promo()
    lost = capture(order=FoundOrder(50_000, "namaste"))
    assert shop.do(lost)["result"]["credited"]
    assert shop.entries() == [SIGNUP, TOPUP, BONUS]
    order = shop.state.order(ORDER)
    assert order is not None and order.paid_by == PAYMENT


def test_another_orgs_order_credits_nobody() -> None:
    shop = Shop()
    shop.order()
    assert shop.do(capture(org="org_2"))["result"]["status"] == "mismatched"
    assert shop.do(capture())["refusal"]["code"] == "not_found"
    shop = Shop()
    shop.order()
    shop.do(capture())
    assert shop.do(capture(org="org_2"))["refusal"]["code"] == "not_found"
    assert shop.entries() == [SIGNUP, TOPUP]
    assert shop.balance_nano("org_2") == 0


def test_a_second_payment_of_an_order_is_credited_without_another_bonus() -> None:
    shop = Shop()
    shop.promo()
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    shop.do(capture("1"))
    assert shop.do(capture("2", payment_id="pay_2"))["result"]["credited"]
    assert shop.entries() == [SIGNUP, TOPUP, BONUS, TOPUP]


def test_two_redemptions_in_one_unit_give_one_bonus() -> None:
    shop = Shop()
    shop.promo()
    shop.order("order_1", promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    shop.order("order_2", promo_code="namaste", bonus_nano=50 * RUPEE)
    shop.send(capture("1"), capture("2", payment_id="pay_2", order_id="order_2"))
    assert shop.entries() == [SIGNUP, TOPUP, BONUS, TOPUP]
    assert "redeemed with another payment" in shop.ledger[-1][2]
    reply = shop.do(CheckPromo("check", ORG, "nAmAsTe"))
    assert reply["refusal"]["code"] == "promo_redeemed"
    reply = shop.do(PrepareOrder("order", ORG, 10_000, "NAMASTE"))
    assert reply["refusal"]["code"] == "promo_redeemed"


@pytest.mark.parametrize(
    ("expires_ms", "paid_ms", "told_ms", "bonus"),
    [
        (NOW_MS + 1, NOW_MS, NOW_MS, True),
        (NOW_MS + 5_000, NOW_MS + 3_000, NOW_MS + DAY_MS, True),
        (NOW_MS + 5_000, NOW_MS + 6_000, NOW_MS + 7_000, False),
        (NOW_MS + 5_000, NOW_MS - DAY_MS, NOW_MS + 7_000, False),
        (NOW_MS, NOW_MS, NOW_MS, False),
    ],
)
def test_a_code_counts_when_the_payer_paid(expires_ms: int, paid_ms: int, told_ms: int, bonus: bool) -> None:
    shop = Shop()
    shop.promo(expires_ms=expires_ms)
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    shop.do(capture(paid_ms=paid_ms), told_ms)
    assert shop.entries() == ([SIGNUP, TOPUP, BONUS] if bonus else [SIGNUP, TOPUP])
    assert ("NAMASTE" in shop.ledger[1][2]) is not bonus


def test_the_promised_bonus_is_the_one_credited() -> None:
    shop = Shop()
    shop.promo(rupees=50)
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    shop.promo(rupees=5)
    shop.do(capture())
    assert shop.entries() == [SIGNUP, TOPUP, BONUS]


def test_a_receipt_keeps_the_address_of_its_day() -> None:
    shop = Shop()
    shop.order()
    shop.do(capture())
    shop.do(SetAddress("later", ORG, "Other", "Elsewhere", "Pune", "Maharashtra", "411001"))
    payment = shop.state.payment(PAYMENT)
    assert isinstance(payment, Payment) and payment.address is not None
    assert (payment.address.name, payment.address.pin, payment.payer) == (
        "Asha Stores",
        "560001",
        "Asha Stores",
    )


def test_a_callbacks_answer_is_the_same_again_though_the_balance_has_changed() -> None:
    shop = Shop()
    shop.order()
    first = shop.do(capture("key", fingerprint="a"))
    shop.do(refund())
    assert shop.do(capture("key", fingerprint="a")) == first
    other = shop.do(capture("key", fingerprint="b"))
    assert other["refusal"]["param"] == "Idempotency-Key"


def test_a_key_that_came_with_a_failure_first_is_answered_that_and_can_be_read_as_a_capture() -> None:
    shop = Shop()
    shop.order()
    first = shop.do(fail("key", fingerprint="f"))["result"]
    again = shop.do(capture("key", fingerprint="f"))["result"]
    assert again == first
    assert result_of(Capture, msgspec.json.encode(again)) == PaymentTaken("failed")
