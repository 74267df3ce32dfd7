"""Every page of a member while ClickHouse is away: what the owners know is shown, the rest says why not, nothing waits."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from pipeline.api.http.errors import unavailable
from pipeline.api.pages import navigation
from tests.support.product.dashboard import Dashboard, Org, failing

OF_THE_ENGINE = (
    "/me/usage",
    "/me/usage/daily",
    "/me/activity",
    "/me/activity/latency",
    "/me/activity/events",
    "/me/forecast",
    "/me/keys/use",
    "/me/statements",
    "/me/search",
    "/v1/rankings",
)
ALWAYS = 10_000
AWAY = "Nothing was lost"
TOLD = {
    "/overview": (AWAY, "₹512.49", "chatbot", "daily limit is reached is not known now"),
    "/activity": (AWAY, "Not known now"),
    "/keys": ("chatbot", "Not known now"),
    "/billing": ("₹512.49",),
    "/statements": (AWAY, "Not known now"),
    "/notices": ("None",),
}
"""What a page tells: what is away, and what a worker still answers for."""


@pytest.fixture(scope="module")
def org(product: Dashboard) -> Org:
    """An org with a balance and a key."""
    org = product.org("512.4939")
    product.shop.post("/me/keys", org.name, {"name": "chatbot"})
    return org


@pytest.mark.parametrize("address", [place.address for place in navigation.MEMBERS])
def test_a_page_tells_what_is_away_and_shows_the_rest(page: Page, org: Org, address: str) -> None:
    for path in OF_THE_ENGINE:
        failing(page, path, unavailable(), times=ALWAYS)
    org.sign_in(page.context)
    page.goto(address)
    expect(page.locator(".waiting:visible")).to_have_count(0)
    for words in TOLD[address]:
        expect(page.get_by_text(words).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
