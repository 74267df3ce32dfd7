"""An operator's credit counts once for its key, and a correction takes the place of the refund it names."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.accounts.commands import Credit
from pipeline.accounts.model import ANSWERS_KEPT
from pipeline.accounts.returns import posted_nano
from tests.support.billing import ORG, PAYMENT, RUPEE, Shop, capture, refund

SIGNUP, TOPUP = ("promo", 100), ("topup", 500)


def _credit(command_id: str, rupees: int, **more: Any) -> Credit:
    return Credit(command_id, ORG, rupees * RUPEE, "a reason", **more)


def _paid() -> Shop:
    shop = Shop()
    shop.order()
    shop.do(capture())
    return shop


def test_a_key_counts_once_even_after_more_commands_than_answers_are_remembered() -> None:
    shop = Shop()
    first = shop.do(_credit("k", 50, fingerprint="f"))
    for n in range(ANSWERS_KEPT + 1):
        shop.do(_credit(f"other {n}", 1, fingerprint="g"))
    assert shop.do(_credit("k", 50, fingerprint="f"))["result"] == first["result"]
    other = shop.do(_credit("k", 51, fingerprint="another"))
    assert (other["refusal"]["code"], other["refusal"]["param"]) == ("invalid_request", "Idempotency-Key")
    assert shop.entries().count(("correction", 50)) == 1 and ("correction", 51) not in shop.entries()


def test_a_refund_that_a_correction_named_is_not_debited_when_it_is_told_of() -> None:
    shop = _paid()
    shop.do(_credit("c", -200, refund_id="rfnd_1"))
    for n in range(3):
        assert shop.do(refund(f"r{n}"))["result"] == {"status": "corrected", "balance_nano": 400 * RUPEE}
    assert shop.entries() == [SIGNUP, TOPUP, ("correction", -200)]
    payment = shop.state.payment(PAYMENT)
    assert payment is not None and (payment.refunded_paise, posted_nano(payment)) == (20_000, 0)
    # The next refund is debited as ever, and no more than was paid.
    assert shop.do(refund("more", refund_id="rfnd_2", amount_paise=30_001))["result"]["status"] == "ignored"
    assert shop.do(refund("rest", refund_id="rfnd_2", amount_paise=30_000))["result"]["status"] == "debited"
    assert shop.balance_nano() == 100 * RUPEE


@pytest.mark.parametrize("told_before", [True, False])
def test_a_refund_that_failed_after_a_correction_is_given_back_once(told_before: bool) -> None:
    shop = _paid()
    shop.do(_credit("c", -200, refund_id="rfnd_1"))
    if told_before:
        shop.do(refund("told"))
    for n in range(2):
        assert shop.do(refund(f"f{n}", failed=True))["result"]["status"] == "failed"
    assert shop.entries() == [SIGNUP, TOPUP, ("correction", -200), ("refund", 200)]
    payment = shop.state.payment(PAYMENT)
    assert payment is not None and (payment.refunded_paise, posted_nano(payment)) == (0, 200 * RUPEE)


def test_a_correction_for_a_refund_that_has_had_its_effect_is_refused() -> None:
    shop = _paid()
    shop.do(refund())
    late = shop.do(_credit("late", -200, refund_id="rfnd_1"))
    assert (late["refusal"]["param"], shop.balance_nano()) == ("refund_id", 400 * RUPEE)
    shop.do(_credit("c", -200, refund_id="rfnd_2"))
    twice = shop.do(_credit("twice", -200, refund_id="rfnd_2"))
    assert twice["refusal"]["param"] == "refund_id"
    upwards = shop.do(_credit("up", 200, refund_id="rfnd_3"))
    assert upwards["refusal"]["param"] == "amount_inr"
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -200), ("correction", -200)]
