"""The receipt as a page: nothing on it comes from elsewhere, and what is not known is not named."""

from __future__ import annotations

from msgspec import structs

from pipeline.api.pages import receipt as receipt_page
from pipeline.payments.receipts import Payer, Receipt


def test_the_policy_names_every_script_and_style_and_no_place() -> None:
    assert "unsafe" not in receipt_page.POLICY and "http" not in receipt_page.POLICY
    receipt = Receipt(
        payment_id="pay_1",
        order_id="order_1",
        amount_nano=123_456_780_000_000,
        credited_nano=123_456_780_000_000,
        payer=Payer("", "", ""),
        address=None,
        method="",
        paid_at_ms=1_781_288_999_123,
    )
    html = receipt_page.render(receipt)
    assert "₹1,23,456.78" in html and "paise seventy-eight only" in html
    assert "http" not in html and "Payer" not in html and "Method" not in html


def test_the_page_shows_what_was_credited_and_what_went_back_where_that_differs() -> None:
    paid = Receipt(
        payment_id="pay_1",
        order_id="order_1",
        amount_nano=511_800_000_000,
        credited_nano=500_000_000_000,
        payer=Payer("Asha", "", ""),
        address=None,
        method="upi",
        paid_at_ms=1_781_288_999_123,
    )
    html = receipt_page.render(paid)
    assert "₹511.80" in html and "Credited to the balance</dt><dd>₹500" in html
    assert "Refunded" not in html and "dispute" not in html
    since = structs.replace(
        paid, refunded_nano=10 * 10**9, disputed_nano=20 * 10**9, in_dispute_nano=30 * 10**9
    )
    html = receipt_page.render(since)
    assert "Refunded since</dt><dd>₹10" in html
    assert "Taken back by the bank in a dispute</dt><dd>₹20" in html
    assert "In dispute, not decided</dt><dd>₹30" in html
