"""The page of statements in a real browser, against the running product."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org
from tests.support.product.requests import request, send


@pytest.fixture(scope="module")
def used(product: Dashboard) -> Org:
    """An org with a credit and three requests."""
    org = product.org("100")
    send(org, [request(org), request(org, 10), request(org, 20)])
    return org


def test_each_month_is_the_apis_and_leads_to_its_page_and_its_file(page: Page, used: Org) -> None:
    used.sign_in(page.context, "member")
    page.goto("/statements")
    expect(page.locator("#statements-waiting")).to_be_hidden()
    [month] = used.dashboard.shop.get("/me/statements", used.name)["statements"]
    amounts = page.locator("#statements tr [data-value]")
    names = ("opening_inr", "credits_inr", "debits_inr", "closing_inr")
    for cell, name in zip(amounts.all(), names, strict=True):
        expect(cell).to_have_attribute("data-value", str(month[name]))
    expect(page.locator("#fresh")).to_contain_text("IST, ")
    with page.expect_download() as saved:
        page.get_by_role("link", name="as CSV").click()
    assert saved.value.suggested_filename == f"statement_{used.name}_{month['month']}.csv"
    page.locator("#statements th a").click()
    expect(page).to_have_url(f"{used.dashboard.url}/me/statements/{month['month']}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Statement")
    expect(page.get_by_text("Closing balance").first).to_be_visible()
    page.go_back()
    expect(page.locator("#statements tr")).to_have_count(1)


def test_an_org_without_a_posting_is_told_what_begins_a_month(page: Page, product: Dashboard) -> None:
    Org("acme-nobody", product).sign_in(page.context)
    page.goto("/statements")
    expect(page.get_by_text("Nothing was posted yet")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(page: Page, used: Org, scheme: str) -> None:
    used.sign_in(page.context)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto("/statements")
        expect(page.locator("#statements tr")).to_have_count(1)
        assert serious_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        expect(page.locator("#statements .closing")).to_be_in_viewport(ratio=1)
