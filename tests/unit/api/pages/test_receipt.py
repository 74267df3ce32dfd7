"""The receipt as a page: nothing on it comes from elsewhere, and what is not known is not named."""

from __future__ import annotations

from pipeline.api.pages import receipt as receipt_page
from pipeline.payments.receipts import Payer, Receipt


def test_the_policy_names_every_script_and_style_and_no_place() -> None:
    assert "unsafe" not in receipt_page.POLICY and "http" not in receipt_page.POLICY
    receipt = Receipt(
        payment_id="pay_1",
        order_id="order_1",
        amount_nano=123_456_780_000_000,
        payer=Payer("", "", ""),
        address=None,
        method="",
        paid_at_ms=1_781_288_999_123,
    )
    html = receipt_page.render(receipt)
    assert "₹1,23,456.78" in html and "paise seventy-eight only" in html
    assert "http" not in html and "Payer" not in html and "Method" not in html
