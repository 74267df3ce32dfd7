"""A lost dispute is debited once, and given back once where it is won after all, whatever the order of its messages."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.outcomes import DisputeStatus
from tests.support.billing import PAYMENT, RUPEE, Shop, capture, dispute, refund
from tests.support.builders import EXAMPLES, everything

SIGNUP, TOPUP = ("promo", 100), ("topup", 500)
STATUSES: tuple[DisputeStatus, ...] = ("open", "closed", "lost", "won")


def _paid() -> Shop:
    shop = Shop()
    shop.order()
    shop.do(capture())
    return shop


def test_an_open_dispute_moves_no_money_and_is_seen_on_the_payment_until_it_is_decided() -> None:
    shop = _paid()
    opened = dispute("open", status="open", deducted_paise=0)
    assert shop.do(opened)["result"] == {"status": "open", "balance_nano": 600 * RUPEE}
    payment = shop.state.payment(PAYMENT)
    assert payment is not None and payment.open_disputes == {"disp_1": 50_000}
    shop.do(dispute("closed", status="closed", deducted_paise=0))
    payment = shop.state.payment(PAYMENT)
    assert payment is not None and payment.open_disputes == {} and payment.disputed_paise == 0
    assert shop.entries() == [SIGNUP, TOPUP]


def test_a_lost_dispute_is_debited_once_and_given_back_once_where_it_is_won() -> None:
    shop = _paid()
    for n in range(3):
        assert shop.do(dispute(f"l{n}", deducted_paise=30_000))["result"]["status"] == "lost"
    assert shop.entries() == [SIGNUP, TOPUP, ("dispute", -300)]
    for n in range(3):
        assert shop.do(dispute(f"w{n}", status="won"))["result"]["balance_nano"] == 600 * RUPEE
    assert shop.entries() == [SIGNUP, TOPUP, ("dispute", -300), ("dispute", 300)]
    assert shop.do(dispute("late", deducted_paise=30_000))["result"]["status"] == "won"
    assert shop.balance_nano() == 600 * RUPEE


def test_every_order_of_the_messages_comes_to_the_same() -> None:
    for end, balance in (("lost", 100), ("won", 600)):
        told = ["open", "open", "closed", "lost", *([end] if end == "won" else [])]
        for order in set(itertools.permutations(told)):
            shop = _paid()
            for n, status in enumerate(order):
                shop.do(dispute(str(n), status=status, deducted_paise=50_000 if status == "lost" else 0))
            assert shop.balance_nano() == balance * RUPEE, order
            payment = shop.state.payment(PAYMENT)
            assert payment is not None and payment.open_disputes == {}, order


def test_a_dispute_of_what_was_not_credited_waits_for_the_credit() -> None:
    shop = Shop()
    shop.order()
    shop.do(capture("odd", amount_paise=49_999))
    shop.do(dispute("open", status="open"))
    shop.do(dispute("lost", deducted_paise=49_999))
    assert shop.entries() == [SIGNUP]
    kept = shop.state.dispute("disp_1")
    assert kept is not None and kept.problem == "the payment was not credited"
    shop.do(capture("settled", amount_paise=49_999, settled=True))
    shop.do(dispute("again", deducted_paise=49_999))
    assert shop.balance_nano() == 100 * RUPEE
    kept = shop.state.dispute("disp_1")
    assert kept is not None and kept.problem == ""


def test_a_dispute_that_cannot_be_right_moves_no_money_and_says_why() -> None:
    shop = _paid()
    shop.do(dispute("more", deducted_paise=50_001))
    shop.do(dispute("usd", dispute_id="disp_2", currency="USD"))
    assert shop.do(dispute("theirs", org="org_2"))["refusal"]["code"] == "not_found"
    assert shop.entries() == [SIGNUP, TOPUP]
    more, usd = shop.state.dispute("disp_1"), shop.state.dispute("disp_2")
    assert more is not None and "more than was paid" in more.problem
    assert usd is not None and "USD" in usd.problem


def test_what_was_refunded_and_then_lost_in_a_dispute_too_is_debited_twice() -> None:
    shop = _paid()
    shop.do(refund(amount_paise=50_000))
    shop.do(dispute())
    assert shop.entries() == [SIGNUP, TOPUP, ("refund", -500), ("dispute", -500)]


MESSAGES = st.lists(st.tuples(st.sampled_from(["disp_1", "disp_2"]), st.sampled_from(STATUSES)), max_size=12)


@EXAMPLES
@given(MESSAGES)
def test_the_balance_is_what_the_furthest_stages_say(messages: list[tuple[str, DisputeStatus]]) -> None:
    shop = _paid()
    paise = {"disp_1": 20_000, "disp_2": 30_001}
    stage: dict[str, int] = {}
    for n, (dispute_id, status) in enumerate(messages):
        deducted = paise[dispute_id] if status == "lost" else 0
        shop.do(dispute(str(n), dispute_id=dispute_id, status=status, deducted_paise=deducted))
        stage[dispute_id] = max(stage.get(dispute_id, 0), STATUSES.index(status))
    lost = sum(paise[name] for name, at in stage.items() if STATUSES[at] == "lost")
    assert shop.balance_nano() == 600 * RUPEE - lost * RUPEE // 100
    assert everything(shop.restore()) == everything(shop.state)
