"""What a page's head asks of the API is what its script asks first, and travels once."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from pipeline.api.pages import navigation
from tests.support.product.dashboard import Dashboard, Org
from tests.support.product.requests import request, send

_LOOK_ONCE = """(() => {
    const [later, ask] = [window.setTimeout, window.fetch];
    window.setTimeout = (call, ms, ...rest) => (ms >= 3000 ? 0 : later(call, ms, ...rest));
    window.asked = [];
    window.fetch = (path, ...rest) => { window.asked.push(new URL(path, location).href); return ask(path, ...rest); };
})()"""
"""A script that notes what the page's own asks for, and has it ask once and not again a few seconds later."""


@pytest.fixture(scope="module")
def busy(product: Dashboard) -> Org:
    """An org with some requests."""
    org = product.org("100")
    send(org, [request(org), request(org, 10)])
    return org


@pytest.mark.parametrize(
    "address", [*(place.address for place in navigation.MEMBERS), "/activity?model=krutrim-2"]
)
def test_what_a_page_asks_ahead_is_what_its_script_asks_and_travels_once(
    page: Page, busy: Org, address: str
) -> None:
    travelled: list[str] = []
    page.add_init_script(_LOOK_ONCE)
    page.on("request", lambda sent: travelled.append(sent.url))
    busy.sign_in(page.context)
    page.goto(address)
    expect(page.locator(".waiting")).to_have_count(0)
    ahead = page.locator("head link[as=fetch]").evaluate_all("(links) => links.map((link) => link.href)")
    assert ahead
    assert set(ahead) <= set(page.evaluate("window.asked"))
    assert {each: travelled.count(each) for each in ahead} == dict.fromkeys(ahead, 1)
