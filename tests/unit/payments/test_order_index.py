"""The index of orders: whose they are, and when to ask about them."""

from __future__ import annotations

import pytest
from msgspec import MsgspecError

from pipeline.accounts.orders import MINUTE_MS, POLLED_FOR_MS
from pipeline.accounts.payments import Order, encode_order_notice
from pipeline.payments.order_index import OrderIndex
from pipeline.topics import ORDERS_KEPT_MS
from tests.support.builders import NOW_MS


def _take(index: OrderIndex, order_id: str, paid_by: str | None = None, created_ms: int = NOW_MS) -> None:
    order = Order(order_id, "org_1", 10_000, created_ms, paid_by=paid_by)
    index.put(*encode_order_notice(order))


def test_an_open_order_is_due_each_minute_until_it_is_paid() -> None:
    index = OrderIndex()
    _take(index, "a")
    assert index.org_of("a") == "org_1" and index.org_of("b") is None
    assert index.due(NOW_MS + MINUTE_MS - 1) == []
    assert index.due(NOW_MS + MINUTE_MS) == ["a"]
    assert index.due(NOW_MS + MINUTE_MS) == []
    _take(index, "a")
    assert index.due(NOW_MS + 2 * MINUTE_MS) == ["a"]
    _take(index, "a", "pay_1")
    assert index.due(NOW_MS + 9 * MINUTE_MS) == [] and index.open_orders(NOW_MS) == 0
    assert index.order_of("pay_1") == "a" and index.org_of("a") == "org_1"


def test_after_a_restart_old_open_orders_are_asked_about_at_once_and_given_up_after_a_week() -> None:
    index = OrderIndex()
    _take(index, "old", created_ms=NOW_MS - POLLED_FOR_MS + MINUTE_MS)
    _take(index, "older", created_ms=NOW_MS - POLLED_FOR_MS - 1)
    assert index.open_orders(NOW_MS) == 1
    assert index.due(NOW_MS) == ["old"]
    assert index.due(NOW_MS + POLLED_FOR_MS) == ["old"]
    assert index.open_orders(NOW_MS + POLLED_FOR_MS) == 0


def test_a_deleted_order_is_gone_and_its_payment_with_it() -> None:
    index = OrderIndex()
    for order_id, paid_by in (("open", None), ("paid", "pay_1"), ("other", "pay_2")):
        _take(index, order_id, paid_by)
    for order_id in ("open", "paid", "never there"):
        index.delete(order_id.encode())
    assert index.open_orders(NOW_MS) == 0
    assert [index.org_of(order_id) for order_id in ("open", "paid", "other")] == [None, None, "org_1"]
    assert (index.order_of("pay_1"), index.order_of("pay_2")) == (None, "other")


def test_orders_of_more_than_five_weeks_ago_are_forgotten_paid_or_not() -> None:
    index = OrderIndex()
    for order_id, paid_by, created_ms in (
        ("old", None, NOW_MS),
        ("old and paid", "pay_1", NOW_MS),
        ("new", "pay_2", NOW_MS + 2),
    ):
        _take(index, order_id, paid_by, created_ms=created_ms)
    index.open_orders(NOW_MS + ORDERS_KEPT_MS)
    assert index.org_of("old") == "org_1"
    index.open_orders(NOW_MS + ORDERS_KEPT_MS + 1)
    assert [index.org_of(each) for each in ("old", "old and paid", "new")] == [None, None, "org_1"]
    assert (index.order_of("pay_1"), index.amount_of("old")) == (None, None)
    assert index.order_of("pay_2") == "new"
    assert [kept for kept in vars(index).values() if isinstance(kept, dict) and "old" in kept] == []


def test_what_is_no_order_changes_nothing() -> None:
    index = OrderIndex()
    with pytest.raises(MsgspecError):
        index.put(b"order", b"{")
    assert index.open_orders(NOW_MS) == 0
