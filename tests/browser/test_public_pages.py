"""The public pages in a real browser: a stranger with a phone finds prices and rankings, and nothing goes elsewhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org
from tests.support.product.requests import request, send

ADDRESSES = ("/", "/rankings", "/models")


@pytest.fixture(scope="module", autouse=True)
def used(product: Dashboard) -> Org:
    """An org whose requests are in the rankings."""
    org = product.org("100")
    send(org, [request(org), request(org, 10), request(org, 10, data__model="sarvam-m")])
    return org


def test_a_stranger_finds_rankings_prices_and_the_way_in(page: Page, product: Dashboard, used: Org) -> None:
    foreign: list[str] = []
    ours = (product.url, "data:")
    page.on("request", lambda asked: None if asked.url.startswith(ours) else foreign.append(asked.url))
    page.goto("/")
    expect(page.get_by_role("link", name="Sign in").first).to_have_attribute("href", "/login")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Rankings").click()
    page.get_by_role("link", name="30 days").click()
    expect(page).to_have_url(f"{product.url}/rankings?days=30")
    ranked = product.shop.get("/v1/rankings", used.name)["windows"]["30d"]
    chart = page.locator('[data-chart="rankings"]')
    expect(chart.locator(".shares .name")).to_have_text([model["model"] for model in ranked])
    values = chart.locator('[data-metric="tokens"]').evaluate_all(
        "all => all.map((each) => each.dataset.value)"
    )
    assert values == [str(model["tokens"]) for model in ranked]
    chart.locator("summary").click()
    expect(page.locator('[data-chart-table="rankings"] tbody tr')).to_have_count(len(ranked))
    chart.get_by_role("link", name="sarvam-m").click()
    expect(page.locator(".prices tbody:visible")).to_have_count(1)
    page.go_back()
    expect(page).to_have_url(f"{product.url}/rankings?days=30")
    assert foreign == []


def test_prices_are_found_and_ordered_and_the_address_keeps_it(page: Page, product: Dashboard) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/models")
    rows = page.locator(".prices tbody:visible")
    names = rows.locator("th")
    expect(names).to_have_text(["<b>gpt</b>", "krutrim-2", "krutrim-2", "sarvam-m"])
    page.get_by_role("button", name="Output").click()
    expect(names).to_have_text(["sarvam-m", "krutrim-2", "krutrim-2", "<b>gpt</b>"])
    expect(page.get_by_role("columnheader", name="Output")).to_have_attribute("aria-sort", "ascending")
    page.get_by_label("Find a model or provider").fill("Yotta 2")
    expect(names).to_have_text(["krutrim-2"])
    expect(page.locator("#found")).to_have_text("1 model at 1 provider")
    expect(page).to_have_url(f"{product.url}/models?q=Yotta+2&sort=output")
    page.reload()
    expect(names).to_have_text(["krutrim-2"])
    page.get_by_label("Find a model or provider").fill("no such")
    expect(page.locator("#none")).to_be_visible()
    page.goto("/models?sort=nothing&q=")
    expect(rows).to_have_count(4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_use_them_at_every_width(page: Page, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    for address in ADDRESSES:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        assert serious_findings(page) == [], address
