"""A refund is debited once and reversed once, whatever the order of its messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.billing import PAYMENT, RUPEE, Shop, capture, refund
from tests.support.builders import EXAMPLES, everything

SIGNUP, TOPUP = ("promo", 100), ("topup", 500)


def _paid() -> Shop:
    shop = Shop()
    shop.order()
    shop.do(capture())
    return shop


def test_a_refund_is_debited_once_and_its_failure_gives_it_back_once() -> None:
    shop = _paid()
    for n in range(3):
        assert shop.do(refund(f"r{n}"))["result"]["status"] == "debited"
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -200)]
    for n in range(3):
        assert shop.do(refund(f"f{n}", failed=True))["result"]["status"] == "failed"
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -200), ("refund", 200)]
    assert shop.do(refund("late"))["result"]["status"] == "failed"
    payment = shop.state.payment(PAYMENT)
    assert payment is not None and payment.refunded_paise == 0


def test_a_failure_that_comes_first_is_the_end_of_it() -> None:
    shop = _paid()
    shop.do(refund(failed=True))
    shop.do(refund("late"))
    assert shop.entries() == [SIGNUP, TOPUP]


def test_no_more_is_refunded_than_was_paid() -> None:
    shop = _paid()
    shop.do(refund("1", refund_id="rfnd_1", amount_paise=30_000))
    assert shop.do(refund("2", refund_id="rfnd_2", amount_paise=20_001))["result"]["status"] == "ignored"
    assert shop.do(refund("3", refund_id="rfnd_3", amount_paise=0))["result"]["status"] == "ignored"
    assert shop.do(refund("4", refund_id="rfnd_4", currency="USD"))["result"]["status"] == "ignored"
    assert shop.do(refund("5", refund_id="rfnd_2"))["result"]["status"] == "debited"
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -300), ("refund", -200)]


def test_a_refund_of_what_was_never_credited_moves_nothing() -> None:
    shop = Shop()
    shop.order()
    assert shop.do(refund())["result"]["status"] == "ignored"
    shop.do(capture())
    assert shop.do(refund("again"))["result"]["status"] == "debited"
    assert shop.do(refund("theirs", org="org_2"))["refusal"]["code"] == "not_found"


MESSAGES = st.lists(st.tuples(st.sampled_from(["rfnd_1", "rfnd_2", "rfnd_3"]), st.booleans()), max_size=15)


@EXAMPLES
@given(MESSAGES)
def test_the_balance_is_what_a_naive_book_says(messages: list[tuple[str, bool]]) -> None:
    shop = _paid()
    paise = {"rfnd_1": 20_000, "rfnd_2": 30_000, "rfnd_3": 1}
    ended: dict[str, bool] = {}
    for n, (refund_id, failed) in enumerate(messages):
        shop.do(refund(str(n), refund_id=refund_id, amount_paise=paise[refund_id], failed=failed))
        back = sum(paise[other] for other, is_failed in ended.items() if not is_failed)
        if refund_id in ended:
            ended[refund_id] = ended[refund_id] or failed
        elif failed or back + paise[refund_id] <= 50_000:
            ended[refund_id] = failed
    back = sum(paise[refund_id] for refund_id, failed in ended.items() if not failed)
    assert shop.balance_nano() == 600 * RUPEE - back * RUPEE // 100
    assert everything(shop.restore()) == everything(shop.state)
