"""The receipt, printed to PDF by a real browser and read back; and what hostile names become on it."""

from __future__ import annotations

import io

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from pipeline.accounts.model import Address
from pipeline.api.pages import receipt as receipt_page
from pipeline.api.routes.receipts import Payer
from tests.browser import product as support
from tests.browser.product import Product, receipt_of

A4_POINTS = (595, 842)


def _printed(page: Page) -> PdfReader:
    return PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True, print_background=True)))


def _text(reader: PdfReader) -> str:
    lines = " ".join(" ".join(sheet.extract_text() for sheet in reader.pages).split())
    return lines.replace("- ", "-")  # a line may end after a hyphen


def test_it_prints_on_one_a4_sheet_with_everything_on_it(page: Page, product: Product) -> None:
    product.sign_in(page.context)
    page.goto("/me/billing/receipts/pay_Qx12")
    reader = _printed(page)
    assert len(reader.pages) == 1
    box = reader.pages[0].mediabox
    assert (round(box.width), round(box.height)) == A4_POINTS
    text = _text(reader)
    for said in (
        "Payment receipt",
        "pay_Qx12",
        "order_Ff12Gh34",
        "₹1,23,456.78",
        "Rupees one lakh twenty-three thousand four hundred and fifty-six and paise seventy-eight only",
        "Asha Rao asha@acme.example +919900000000",
        "Acme Labs 12 Church Street Bengaluru 560001, Karnataka",
        "29ABCDE1234F1Z5",
        "UPI",
        "12 June 2026, 23:59:59 IST",
        "This is a payment receipt. It is not a GST tax invoice.",
    ):
        assert said in text, text
    # What is for the screen alone stays off the paper.
    assert "Print" not in text


@pytest.mark.parametrize(
    "name",
    [
        "<script>document.title = 'taken'</script>",
        '"><img src=x onerror="document.title=1">',
        "{{ 7 * 7 }}{% raw %}",
        "</style><style>*{display:none}",
        "&lt;b&gt; O'Brien & Söhne, अशोक",
        "x" * 400,
    ],
)
def test_hostile_names_stay_text(
    page: Page, product: Product, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hostile = receipt_of(
        "pay_1",
        payer=Payer(name, name, name),
        address=Address(name, name, name, name, name, "560001", name),
        method=name,
        order_id=name,
    )
    monkeypatch.setattr(support, "receipt_of", lambda _payment_id: hostile)
    product.sign_in(page.context)
    page.goto("/me/billing/receipts/pay_1")
    expect(page).to_have_title("Payment receipt pay_1")
    shown = page.locator("dd").all_inner_texts()
    assert shown[1] == name and name in shown[4]
    assert page.locator("main img, main script, main style").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "not a GST tax invoice" in _text(_printed(page))


def test_the_print_button_prints(page: Page, product: Product) -> None:
    page.add_init_script("window.print = () => { document.title = 'printed'; }")
    product.sign_in(page.context)
    page.goto("/me/billing/receipts/pay_1")
    page.get_by_role("button", name="Print").click()
    expect(page).to_have_title("printed")


def test_the_policy_names_every_script_and_style_and_no_place() -> None:
    assert "unsafe" not in receipt_page.POLICY and "http" not in receipt_page.POLICY
    html = receipt_page.render(receipt_of("pay_1", address=None, method="", payer=Payer("", "", "")))
    assert "http" not in html and "Payer" not in html and "Method" not in html
