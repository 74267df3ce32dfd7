"""The overview in a real browser, against the running product: its numbers are the API's, and it follows them."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipeline.api.http.errors import unavailable
from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org, failing
from tests.support.product.requests import request, send


@pytest.fixture(scope="module")
def busy(product: Dashboard) -> Org:
    """An org with requests of today, of 10 days ago and of 32 days ago, one of them failed."""
    org = product.org("100")
    requests = [request(org), request(org, data__model="sarvam-m"), request(org, data__status=500)]
    requests += [request(org, 10, data__model="<b>gpt</b>"), request(org, 10), request(org, 32)]
    send(org, requests)
    return org


def _open(page: Page, org: Org) -> list[str]:
    foreign: list[str] = []
    ours = (org.dashboard.url, "data:")
    page.on("request", lambda asked: None if asked.url.startswith(ours) else foreign.append(asked.url))
    org.sign_in(page.context)
    page.goto("/")
    page.goto("/overview")
    expect(page.locator(".waiting")).to_have_count(0)
    return foreign


def _value(page: Page, metric: str) -> str | None:
    return page.locator(f'[data-metric="{metric}"]').get_attribute("data-value")


def test_its_numbers_are_the_apis(page: Page, busy: Org) -> None:
    foreign = _open(page, busy)
    get = busy.dashboard.shop.get
    totals: dict[str, Any] = get("/me/activity", busy.name)["totals"]
    for metric in ("requests", "tokens", "cost_inr", "errors"):
        assert _value(page, metric) == str(totals[metric]), metric
    assert _value(page, "requests") == "5"
    today = get("/me/usage", busy.name)["totals"]["today"]
    assert _value(page, "today_requests") == str(today["requests"]) == "3"
    assert _value(page, "today_tokens") == str(today["tokens"])
    assert _value(page, "balance_inr") == str(busy.billing()["balance_inr"])
    expect(page.locator('[data-before="requests"]')).to_have_text("1")
    # What is smaller than a paisa is not nothing.
    expect(page.locator('[data-metric="today_cost_inr"]')).to_have_text("₹0.0081")
    expect(page.locator("#lasts")).to_have_text("Lasts longer than a year.")
    expect(page.locator("#lasts-why")).to_contain_text("with weekdays told apart")
    expect(page.locator("#fresh")).to_contain_text("IST, ")
    chart = page.locator('[data-chart="days"]')
    expect(chart.locator(".legend .name")).to_have_text(["<b>gpt</b>", "krutrim-2", "sarvam-m"])
    page.get_by_role("button", name="Requests").click()
    chart.locator("summary").click()
    rows = page.locator('[data-chart-table="days"] tbody tr')
    expect(rows).to_have_count(30)
    expect(rows.first.locator("td")).to_have_text(["2", "0", "1", "3"])
    assert foreign == []


def test_it_follows_without_a_reload_and_stops_when_nobody_looks(page: Page, product: Dashboard) -> None:
    org = product.org("100")
    send(org, [request(org)])
    _open(page, org)
    page.evaluate("window.kept = true")
    send(org, [request(org), request(org)])
    expect(page.locator('[data-metric="today_requests"]')).to_have_attribute("data-value", "3")
    assert page.evaluate("window.kept") is True
    expect(page.locator('[data-metric="balance_inr"]')).to_have_attribute(
        "data-value", str(org.billing()["balance_inr"])
    )
    page.clock.install()
    # The last that is asked for; from then on it is looked again and again.
    with page.expect_response(re.compile("/me/whatif/providers")):
        page.reload()
    expect(page.locator('[data-metric="today_requests"]')).to_have_attribute("data-value", "3")
    page.evaluate(
        """() => {
            Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url))
    page.clock.run_for(60_000)
    assert asked == []


def test_what_is_refused_is_told_with_what_to_do(page: Page, product: Dashboard) -> None:
    org = product.org("-0.5")
    body = {"name": "intern", "budget_inr": 0.001}
    key = product.shop.post("/me/keys", org.name, body)
    send(org, [request(org, data__key_id=key["key_id"])])
    _open(page, org)
    refused = page.locator("#refused li")
    expect(refused).to_have_count(2)
    expect(refused.nth(0)).to_contain_text("402 insufficient_credits")
    expect(refused.nth(0).get_by_role("link")).to_have_attribute("href", "/billing")
    expect(refused.nth(1)).to_contain_text("429 budget_exceeded")
    expect(page.locator("#keys li")).to_contain_text("Budget of ₹0.001 is spent")


def test_how_long_it_lasts_and_when_a_budget_is_spent(page: Page, product: Dashboard) -> None:
    org = product.org("0.2")
    key = product.shop.post("/me/keys", org.name, {"name": "production", "budget_inr": 0.2})
    _open(page, org)
    expect(page.locator("#lasts")).to_have_text("How long it lasts can be told after 3 days of requests.")
    # A day costs 0.0081; not all that has been spent is of this month.
    send(org, [request(org, days, data__key_id=key["key_id"]) for days in range(12, -1, -1)])
    told = product.shop.get("/me/forecast", org.name)
    days = {name: date.fromisoformat(day) for name, day in told["runs_out_on"].items()}
    assert days["earliest"] <= days["likely"] <= days["latest"]
    assert 10 <= (days["likely"] - date.fromisoformat(told["as_of"][:10])).days <= 13
    page.reload()
    expect(page.locator("#lasts")).to_contain_text(f"{days['latest'].day} {days['latest']:%b}")
    expect(page.locator("#lasts-why")).to_contain_text("At ₹0.0081 a day")
    [row] = told["keys"]
    spent_on = row["reached_on"] and f"likely spent on {datetime.fromisoformat(row['reached_on']):%-d %b}"
    line = page.locator(f'#keys li[data-key-id="{key["key_id"]}"]')
    expect(line).to_contain_text(spent_on or "left of ₹0.2")


def test_the_same_requests_at_another_provider_of_the_model(page: Page, busy: Org) -> None:
    _open(page, busy)
    told = busy.dashboard.shop.get("/me/whatif/providers", busy.name)
    [row] = told["models"]
    assert (row["model"], row["as_provider"], row["requests"]) == ("krutrim-2", "yotta", 2)
    line = page.locator('#elsewhere li[data-model="krutrim-2"]')
    expect(line).to_contain_text("The same 2 requests at yotta would have cost ₹")
    expect(line).to_contain_text(" more.")
    for metric in ("actual_inr", "whatif_inr"):
        expect(line.locator(f'[data-metric="{metric}"]')).to_have_attribute("data-value", str(row[metric]))
    assert row["whatif_inr"] == 2 * row["actual_inr"]
    expect(page.locator("#elsewhere li")).to_have_count(1)
    assert {each["model"] for each in told["left_out"]} == {"sarvam-m", "<b>gpt</b>"}
    expect(page.locator("#elsewhere-note")).to_contain_text("Left out: 2 requests for ₹")
    expect(page.locator("#elsewhere-note")).to_contain_text("free requests")


def test_an_org_without_requests_is_told_the_next_step(page: Page, product: Dashboard) -> None:
    _open(page, product.org("100"))
    assert _value(page, "requests") == "0" and _value(page, "cost_inr") == "0"
    expect(page.get_by_text("No requests in these days.")).to_be_visible()
    expect(page.get_by_text("There is no key yet.")).to_be_visible()
    expect(page.locator("#refused-none")).to_contain_text("Nothing.")
    expect(page.locator("#elsewhere")).to_be_hidden()


def test_a_part_that_is_away_leaves_the_rest_and_a_session_that_ends_says_so(page: Page, busy: Org) -> None:
    failing(page, "/me/keys", unavailable(), times=1)
    busy.sign_in(page.context)
    page.goto("/overview")
    expect(page.locator("#keys-result")).to_contain_text("Nothing was lost")
    assert _value(page, "requests") == "5"
    page.context.clear_cookies()
    expect(page.locator("#page-result")).to_contain_text("Your session is over")
    expect(page.locator("#page-result").get_by_role("link")).to_have_attribute("href", "/login")
    assert _value(page, "requests") == "5"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_use_it_at_every_width(page: Page, busy: Org, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, busy)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_findings(page) == []
