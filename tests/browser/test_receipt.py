"""The receipt, printed to PDF by a real browser and read back; and what hostile names become on it."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from tests.support.product.dashboard import Dashboard
from tests.support.product.razorpay import ADDRESS

A4_POINTS = (595, 842)


def _printed(page: Page) -> PdfReader:
    return PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True, print_background=True)))


def _text(reader: PdfReader) -> str:
    lines = " ".join(" ".join(sheet.extract_text() for sheet in reader.pages).split())
    return lines.replace("- ", "-")  # a line may end after a hyphen


def test_it_prints_on_one_a4_sheet_with_everything_on_it(page: Page, product: Dashboard) -> None:
    org = product.org(address=True)
    payment_id = org.topped_up(875, email="payer@acme.example", contact="+919900000000")
    receipt = product.shop.get(f"/me/billing/receipts/{payment_id}", org.name)
    org.sign_in(page.context)
    page.goto(f"/me/billing/receipts/{payment_id}")
    reader = _printed(page)
    assert len(reader.pages) == 1
    box = reader.pages[0].mediabox
    assert (round(box.width), round(box.height)) == A4_POINTS
    text = _text(reader)
    for said in (
        "Payment receipt",
        payment_id,
        receipt["order_id"],
        "₹875.00",
        "Rupees eight hundred and seventy-five only",
        "Asha Stores payer@acme.example +919900000000",
        "Asha Stores 12 MG Road Bengaluru 560001, Karnataka",
        "29ABCDE1234F1Z5",
        "UPI",
        f"{datetime.fromisoformat(receipt['paid_at']):%d %B %Y, %H:%M:%S} IST",
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
        "x" * 120,
    ],
)
def test_hostile_names_stay_text(page: Page, product: Dashboard, name: str) -> None:
    org = product.org()
    lines = dict.fromkeys(("name", "line1", "line2", "city", "state"), name)
    product.shop.put("/me/billing/address", org.name, {**ADDRESS, **lines})
    payment_id = org.topped_up(email=name, contact=name, method=name)
    org.sign_in(page.context)
    page.goto(f"/me/billing/receipts/{payment_id}")
    expect(page).to_have_title(f"Payment receipt {payment_id}")
    shown = page.locator("dd").all_inner_texts()
    assert shown[3] == name
    assert shown[4] == f"{name}\n{name}\n{name}"
    assert shown[5] == f"{name}\n{name}\n{name}\n{name} 560001, {name}"
    assert page.locator("main img, main script, main style").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "not a GST tax invoice" in _text(_printed(page))


def test_the_print_button_prints(page: Page, product: Dashboard) -> None:
    page.add_init_script("window.print = () => { document.title = 'printed'; }")
    org = product.org(address=True)
    payment_id = org.topped_up()
    org.sign_in(page.context)
    page.goto(f"/me/billing/receipts/{payment_id}")
    page.get_by_role("button", name="Print").click()
    expect(page).to_have_title("printed")
