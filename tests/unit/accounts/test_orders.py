"""Ordering a top-up: its bounds, its promo code, its one record, and how often it is asked about."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pipeline.accounts.commands import CheckPromo, Find, OpenOrder, PrepareOrder
from pipeline.accounts.orders import (
    ATTEMPT_COUNTS_MS,
    HOUR_MS,
    MINUTE_MS,
    POLLED_FOR_MS,
    UNPAID_MAX,
    next_poll_ms,
)
from pipeline.accounts.payments import decode_order_notice
from pipeline.ist import DAY_MS
from tests.support.billing import ORDER, ORG, PAYMENT, RUPEE, Shop, capture
from tests.support.builders import NOW_MS, Books


def _prepare(**changes: Any) -> PrepareOrder:
    fields: dict[str, Any] = {"org": ORG, "amount_paise": 50_000, "nonce": "n1", "fingerprint": "a"}
    return PrepareOrder("attempt", **{**fields, **changes})


@pytest.mark.parametrize("amount_paise", [9_900, 100_100, 10_050, 0, -10_000, 10_001])
def test_a_top_up_is_100_to_1000_whole_rupees(amount_paise: int) -> None:
    assert Shop().do(_prepare(amount_paise=amount_paise))["refusal"]["param"] == "amount_inr"


@pytest.mark.parametrize("amount_paise", [10_000, 100_000, 12_300])
def test_amounts_in_range_are_taken(amount_paise: int) -> None:
    assert Shop().do(_prepare(amount_paise=amount_paise))["result"]["nonce"] == "n1"


def test_the_first_order_needs_an_address() -> None:
    shop = Books()
    [reply] = shop.send(_prepare()).replies
    assert b"address_required" in reply


def test_whoever_repeats_an_attempt_learns_that_somebody_was_there() -> None:
    shop = Shop()
    assert shop.do(_prepare())["result"]["nonce"] == "n1"
    assert shop.do(_prepare(nonce="n2"))["result"]["nonce"] == "n1"
    assert shop.do(_prepare(nonce="n2", fingerprint="b"))["refusal"]["param"] == "Idempotency-Key"
    assert shop.do(Find("find", ORG, answered="attempt"))["result"]["answer"]["nonce"] == "n1"
    assert shop.do(Find("find", ORG, answered="nobody"))["result"]["answer"] is None


def test_a_refused_attempt_may_be_made_again() -> None:
    shop = Shop()
    assert shop.do(_prepare(promo_code="NAMASTE"))["refusal"]["code"] == "promo_invalid"
    shop.promo()
    assert shop.do(_prepare(promo_code=" namaste "))["result"] == {
        "nonce": "n1",
        "promo_code": "NAMASTE",
        "bonus_nano": 50 * RUPEE,
    }


def test_unknown_and_expired_codes_are_answered_alike() -> None:
    shop = Shop()
    shop.promo("OLD", expires_ms=NOW_MS)
    shop.promo("NEW", expires_ms=NOW_MS + 1)
    old, unknown = (shop.do(CheckPromo("check", ORG, code)) for code in ("OLD", "NOBODY"))
    assert old == unknown and old["refusal"]["code"] == "promo_invalid"
    assert shop.do(CheckPromo("check", ORG, "new"))["result"] == {"code": "NEW", "bonus_nano": 50 * RUPEE}
    assert shop.do(CheckPromo("check", ORG, "new"), NOW_MS + 1) == old


def test_an_order_is_recorded_once_and_told_to_the_servers() -> None:
    shop = Shop()
    opened = OpenOrder("open", ORG, ORDER, 50_000)
    [(key, value)] = shop.send(opened).orders
    assert (key, decode_order_notice(value).org, decode_order_notice(value).paid_by) == (
        ORDER.encode(),
        ORG,
        None,
    )
    outcome = shop.send(OpenOrder("again", ORG, ORDER, 99_900))
    assert outcome.orders == [] and b'"amount_paise":50000' in outcome.replies[0]
    assert shop.do(OpenOrder("theirs", "org_2", ORDER, 50_000))["refusal"]["code"] == "not_found"
    [(_, value)] = shop.send(capture()).orders
    assert decode_order_notice(value).paid_by == PAYMENT


def test_an_org_finds_only_its_own() -> None:
    shop = Shop()
    shop.order()
    shop.do(capture())
    mine = shop.do(Find("find", ORG, order_id=ORDER, payment_id=PAYMENT))["result"]
    assert mine["order"]["paid_by"] == PAYMENT and mine["payment"]["status"] == "captured"
    theirs = shop.do(Find("find", "org_2", order_id=ORDER, payment_id=PAYMENT))["result"]
    assert theirs["order"] is None and theirs["payment"] is None


def test_open_orders_are_asked_about_every_minute_then_ever_more_rarely_for_a_week() -> None:
    asked: list[int] = []
    next_ms = next_poll_ms(0, 0)
    while next_ms is not None:
        asked.append(next_ms)
        next_ms = next_poll_ms(0, next_ms)
    pauses = [b - a for a, b in itertools.pairwise(asked)]
    assert asked[:60] == [MINUTE_MS * n for n in range(1, 61)]
    assert pauses == sorted(pauses) and max(pauses) < DAY_MS
    assert asked[-2] < POLLED_FOR_MS <= asked[-1] and asked[59] == HOUR_MS
    assert len(asked) < 130


def _attempt(shop: Shop, number: int, at_ms: int = NOW_MS, *, opened: bool = True) -> str | None:
    """Order a top-up as the server does, and return why it was refused; `opened`: Razorpay has made the order."""
    wanted = PrepareOrder(f"key_{number}", ORG, 50_000, nonce="n", fingerprint="a")
    answer = shop.do(wanted, at_ms=at_ms)
    if "refusal" in answer:
        assert answer["refusal"]["retry_after_s"] > 0
        return str(answer["refusal"]["code"])
    if opened:
        shop.do(OpenOrder(f"{wanted.id}.open", ORG, f"order_{number}", 50_000, fingerprint="a"), at_ms=at_ms)
    return None


def test_an_org_has_so_many_orders_of_a_day_that_nobody_has_paid() -> None:
    shop = Shop()
    assert [_attempt(shop, number) for number in range(UNPAID_MAX)] == [None] * UNPAID_MAX
    assert _attempt(shop, 100) == "rate_limit_exceeded"
    # Who pays one may order another one; what was begun is not refused when it is repeated.
    shop.do(capture(order_id="order_3", payment_id="pay_3"))
    assert _attempt(shop, 101) is None
    assert _attempt(shop, 102) == "rate_limit_exceeded"
    assert _attempt(shop, 0) is None
    # After a day nobody waits for these any more.
    assert _attempt(shop, 103, NOW_MS + DAY_MS - 1) == "rate_limit_exceeded"
    assert _attempt(shop, 104, NOW_MS + DAY_MS) is None
    assert len(shop.state.account(ORG).profile.unpaid) == 1


def test_attempts_at_the_same_time_are_counted_and_failed_ones_soon_forgotten() -> None:
    shop = Shop()
    assert [_attempt(shop, number, opened=False) for number in range(UNPAID_MAX)] == [None] * UNPAID_MAX
    assert _attempt(shop, 100) == "rate_limit_exceeded"
    assert _attempt(shop, 101, NOW_MS + ATTEMPT_COUNTS_MS) is None
