"""A payment credited twice, or a bonus redeemed twice, shows in the audit."""

from __future__ import annotations

import pytest
from msgspec import structs

from pipeline.accounts.payments import Payment
from pipeline.journal import LEDGER, JournalRecord, decode_rows, encode_rows
from pipeline.operations.audit import Books as Folded
from pipeline.operations.audit import compare_payments
from tests.support.billing import PAYMENT, RUPEE, Shop, capture, refund


def _shop() -> tuple[Shop, list[JournalRecord]]:
    shop = Shop()
    shop.promo()
    shop.order(promo_code="NAMASTE", bonus_nano=50 * RUPEE)
    journal = [*shop.send(capture()).journal, *shop.send(capture("again")).journal]
    return shop, [*journal, *shop.send(refund()).journal]


def _folded(journal: list[JournalRecord]) -> Folded:
    folded = Folded(0)
    for record in journal:
        folded.fold(record, {})
    return folded


def test_what_was_posted_agrees() -> None:
    shop, journal = _shop()
    assert list(compare_payments(_folded(journal), shop.restore().payments())) == []
    assert _folded(journal).paid == {PAYMENT: [1, 500 * RUPEE, -200 * RUPEE]}


@pytest.mark.parametrize(
    ("changes", "shows"),
    [({"amount_paise": 1}, True), ({"refunded_paise": 0}, True), ({"status": "failed"}, True), ({}, False)],
)
def test_a_changed_record_shows(changes: dict[str, object], shows: bool) -> None:
    shop, journal = _shop()
    kept: list[Payment] = [structs.replace(p, **changes) for p in shop.restore().payments()]
    assert bool(list(compare_payments(_folded(journal), kept))) is shows


def test_a_second_credit_and_a_second_bonus_show() -> None:
    shop, journal = _shop()
    rows = [row for record in journal for row in decode_rows(record)]
    for row in rows[:2]:
        folded = _folded([*journal, *encode_rows(LEDGER, [row])])
        assert len(list(compare_payments(folded, shop.restore().payments()))) == 1
