"""The search in a real browser: by keyboard alone, over pages, models, keys, and requests by both of their ids."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from pipeline.api.http.errors import unavailable
from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org, failing
from tests.support.product.requests import request, send


@pytest.fixture(scope="module")
def org(product: Dashboard) -> Org:
    """An org with a key and a request."""
    org = product.org("100")
    product.shop.post("/me/keys", org.name, {"name": "laptop of Asha"})
    send(org, [{**request(org), "id": f"seen-{org.name}"}])
    return org


def _open(page: Page, org: Org) -> None:
    org.sign_in(page.context)
    page.goto("/billing")
    expect(page.locator("#balance .waiting")).to_have_count(0)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Search")).to_be_focused()


def test_pages_models_and_keys_are_found_by_keyboard(page: Page, org: Org) -> None:
    _open(page, org)
    box = page.get_by_role("combobox", name="Search")
    box.fill("yotta")
    expect(page.get_by_role("group", name="Models").get_by_role("option")).to_have_text(
        [re.compile("krutrim-2")]
    )
    box.fill("asha lap")
    key = page.get_by_role("group", name="Keys").get_by_role("option")
    expect(key).to_contain_text("laptop of Asha")
    expect(key).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Search").click()
    expect(box).to_have_value("")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    box.fill("over")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/overview$"))


@pytest.mark.parametrize("by", ["number", "event"])
def test_a_request_is_found_by_either_id(page: Page, org: Org, by: str) -> None:
    [event] = org.dashboard.shop.get("/me/activity/events", org.name)["events"]
    _open(page, org)
    page.get_by_role("combobox", name="Search").fill(
        str(event["id"]) if by == "number" else f"seen-{org.name}"
    )
    found = page.get_by_role("group", name="Requests").get_by_role("option")
    expect(found).to_contain_text(f"Request {event['id']}")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/activity/{event['id']}$"))
    expect(page.locator("h1")).to_be_visible()


def test_another_orgs_request_is_not_found(page: Page, product: Dashboard, org: Org) -> None:
    _open(page, product.org("100"))
    with page.expect_response(re.compile("/me/search")):
        page.get_by_role("combobox", name="Search").fill(f"seen-{org.name}")
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("Nothing has this name or id.")


def test_where_keys_are_away_the_rest_is_searched(page: Page, org: Org) -> None:
    failing(page, "/me/keys", unavailable())
    _open(page, org)
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("Keys are not searched")
    page.get_by_role("combobox", name="Search").fill("sarvam")
    expect(page.get_by_role("group", name="Models").get_by_role("option")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(page: Page, org: Org, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    _open(page, org)
    page.get_by_role("combobox", name="Search").fill("k")
    expect(page.get_by_role("group", name="Keys")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious_findings(page) == []
