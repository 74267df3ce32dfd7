"""The activity of an org in a real browser, against the running product: the numbers, the filters, the requests."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from pipeline import ist
from pipeline.api.http.errors import unavailable
from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org, failing
from tests.support.product.requests import request, send

MANY = 130
"""Requests of the org whose list has pages."""


@pytest.fixture(scope="module")
def busy(product: Dashboard) -> Org:
    """An org with two models, one of them at two providers, failures, trial and own-key requests, over 100 days."""
    org = product.org("100")
    changes: list[dict[str, Any]] = [
        {},
        {"data__model": "sarvam-m"},
        {"data__provider": "yotta", "data__latency_ms": 2_500},
        {"data__status": 503, "data__provider": None, "data__error_code": "overloaded"},
        {"data__byok": True, "data__key_id": "key_02"},
        {"data__tier": "trial", "data__key_id": "key_02"},
    ]
    requests = [request(org, days_ago, **each) for days_ago in (0, 3) for each in changes]
    send(org, [*requests, request(org, 33, data__model="<b>gpt</b>"), request(org, 34)])
    return org


@pytest.fixture(scope="module")
def long(product: Dashboard) -> Org:
    """An org with a list of several pages."""
    org = product.org("100")
    send(org, [request(org, number % 2) for number in range(MANY)])
    return org


def _open(page: Page, org: Org, query: str = "") -> None:
    org.sign_in(page.context, "member")
    page.goto(f"/activity{query}")
    expect(page.locator(".waiting")).to_have_count(0)


def _look(page: Page) -> None:
    """Have the page look at once, as it does when somebody comes back to it."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def _day(days_ago: int) -> str:
    today = ist.date_of(ist.day_of(int(time.time() * 1000)))
    return (today - timedelta(days=days_ago)).isoformat()


def _value(page: Page, metric: str) -> str | None:
    return page.locator(f'[data-metric="{metric}"]').get_attribute("data-value")


def _ids(page: Page) -> list[int]:
    return [
        int(each)
        for each in page.eval_on_selector_all("[data-event-id]", "rows => rows.map(r => r.dataset.eventId)")
    ]


def test_its_numbers_are_the_apis_whatever_the_filters(page: Page, busy: Org) -> None:
    get = busy.dashboard.shop.get
    foreign: list[str] = []
    ours = (busy.dashboard.url, "data:")
    page.on("request", lambda asked: None if asked.url.startswith(ours) else foreign.append(asked.url))
    for query in ("", f"?from={_day(60)}&to={_day(1)}", "?model=krutrim-2&provider=yotta", "?key_id=key_02"):
        _open(page, busy, query)
        found: dict[str, Any] = get(f"/me/activity{query}", busy.name)
        for metric in ("requests", "tokens", "cost_inr", "errors", "byok_requests"):
            assert _value(page, metric) == str(found["totals"][metric]), (query, metric)
        assert _ids(page) == [each["id"] for each in _events(busy, found, query)], query
    assert foreign == []
    _open(page, busy)
    expect(page.locator('[data-note="errors"]')).to_have_text("16.7% of requests")
    expect(page.locator("#top-models th")).to_have_text(["krutrim-2", "sarvam-m"])
    served = page.locator("#providers tr")
    expect(served).to_have_count(4)
    expect(served.filter(has_text="yotta")).to_contain_text("20%")
    expect(served.filter(has_text="none: failed before one was asked")).to_have_count(1)
    quick: dict[str, Any] = get("/me/activity/latency", busy.name)["models"][0]
    speed = page.locator("#speed tr").filter(has_text="krutrim-2").locator("td")
    expect(speed).to_have_text([f"{quick['p50_ms']} ms", f"{quick['p95_ms']:,} ms", "2", "20%"])
    assert quick["p50_ms"] < quick["p95_ms"] == 2_500


def _events(org: Org, found: dict[str, Any], query: str) -> list[Any]:
    days = f"from={found['from']}&to={found['to']}"
    rest = re.sub(r"[?&]?(from|to)=[^&]*", "", query).lstrip("?")
    events: list[Any] = org.dashboard.shop.get(f"/me/activity/events?{days}&{rest}".rstrip("&"), org.name)[
        "events"
    ]
    return events


def test_the_view_is_in_the_address_and_back_leads_to_the_one_before(page: Page, busy: Org) -> None:
    _open(page, busy)
    page.evaluate("window.kept = true")
    page.get_by_label("Model", exact=True).select_option("krutrim-2")
    expect(page).to_have_url(re.compile(r"[?&]model=krutrim-2"))
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "10")
    page.get_by_role("link", name="7 days").click()
    expect(page).to_have_url(re.compile(rf"from={_day(6)}&to={_day(0)}&model=krutrim-2"))
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
    page.get_by_role("button", name="Tokens").click()
    expect(page).to_have_url(re.compile("show=tokens"))
    page.get_by_label("From", exact=True).fill(_day(0))
    page.get_by_role("button", name="Apply").click()
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "5")
    assert page.evaluate("window.kept") is True
    tab = page.get_by_role("navigation", name="Dashboard")
    tab.get_by_role("link", name="Overview").click()
    expect(page).to_have_url(
        re.compile(rf"/overview\?from={_day(0)}&to={_day(0)}&model=krutrim-2&show=tokens")
    )
    tab.get_by_role("link", name="Activity").click()
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "5")
    expect(page.get_by_role("button", name="Tokens")).to_have_attribute("aria-pressed", "true")
    for _ in range(3):
        page.go_back()
    expect(page.get_by_label("From", exact=True)).to_have_value(_day(6))
    expect(page.get_by_label("Model", exact=True)).to_have_value("krutrim-2")
    page.go_back()
    page.go_back()
    expect(page.get_by_label("Model", exact=True)).to_have_value("")
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "12")


def test_a_range_above_92_days_is_drawn_by_week(page: Page, busy: Org) -> None:
    _open(page, busy, f"?from={_day(100)}")
    page.locator('[data-chart="days"] summary').click()
    rows = page.locator('[data-chart-table="days"] tbody tr')
    expect(rows.first).to_contain_text("week of")
    assert rows.count() in (15, 16)
    links = [page.locator(each).get_attribute("href") or "" for each in ("#events-csv", "#days-csv")]
    for link in links:
        assert f"from={_day(100)}&to={_day(0)}" in link
    # The names of the columns, and a line a request.
    assert len(page.request.get(links[0]).text().splitlines()) == 15


def test_paging_loses_and_repeats_nothing_while_requests_arrive(page: Page, long: Org) -> None:
    _open(page, long)
    first = _ids(page)
    assert len(first) == 50
    send(long, [request(long) for _ in range(3)])
    _look(page)
    announced = page.locator("#arrived")
    expect(announced).to_have_text(re.compile("3 new requests . show"))
    assert _ids(page) == first
    older = page.get_by_role("button", name="Show more")
    older.click()
    expect(page.locator("[data-event-id]")).to_have_count(100)
    older.click()
    expect(page.locator("[data-event-id]")).to_have_count(MANY)
    expect(older).to_be_hidden()
    announced.click()
    expect(page.locator("[data-event-id]")).to_have_count(MANY + 3)
    expect(announced).to_be_hidden()
    every = long.dashboard.shop.get("/me/activity/events?limit=200", long.name)["events"]
    assert _ids(page) == [each["id"] for each in every]
    # From a request Back leads to the list as it was.
    page.locator(f'[data-event-id="{first[-1]}"] a').click()
    expect(page).to_have_url(re.compile(rf"/activity/{first[-1]}$"))
    page.go_back()
    expect(page.locator("[data-event-id]")).to_have_count(MANY + 3)
    expect(page.locator(f'[data-event-id="{first[-1]}"]')).to_be_in_viewport()


def test_requests_that_arrive_while_the_list_is_asked_for_are_announced(
    page: Page, product: Dashboard
) -> None:
    org = product.org("100")
    send(org, [request(org)])
    org.sign_in(page.context, "member")
    earlier = page.request.get(f"/me/activity/events?from={_day(29)}&to={_day(0)}&limit=50").body()
    send(org, [request(org) for _ in range(3)])
    # The list is older than the numbers and the totals beside it.
    page.route(re.compile(r"/me/activity/events\?"), lambda route: route.fulfill(body=earlier), times=1)
    _open(page, org)
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "4")
    assert len(_ids(page)) == 1
    _look(page)
    expect(page.locator("#arrived")).to_have_text(re.compile("3 new requests . show"))


def test_an_answer_that_never_comes_is_given_up_and_asked_for_again(page: Page, busy: Org) -> None:
    page.clock.install()
    _open(page, busy)
    hanging: list[Route] = []

    def hang(route: Route) -> None:
        hanging.append(route)

    page.route(re.compile(r"/me/activity/totals\?"), hang, times=1)
    with page.expect_request(re.compile(r"/me/activity/totals\?")):
        page.clock.run_for(4_000)
    page.clock.run_for(30_000)
    expect(page.locator("#page-result")).to_contain_text("Nothing was lost")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#page-result")).to_have_text("")


def test_one_request_tells_what_it_cost_and_why(page: Page, busy: Org) -> None:
    shop = busy.dashboard.shop
    events = shop.get(f"/me/activity/events?from={_day(0)}", busy.name)["events"]
    busy.sign_in(page.context, "member")
    for event in events:
        page.goto(f"/activity/{event['id']}")
        expect(page.locator(".waiting")).to_have_count(0)
        told = shop.get(f"/me/activity/events/{event['id']}", busy.name)
        assert _value(page, "cost_inr") == str(told["cost_inr"]) and _value(page, "tokens") == str(
            told["tokens"]
        )
        lines = page.locator("#lines tbody tr")
        expect(lines).to_have_count(len(told["cost"]["lines"]))
        if told["cost"]["free"]:
            expect(page.locator("#why")).to_contain_text("It was free")
            expect(page.locator("#by-hand")).to_be_hidden()
    page.goto(f"/activity?model=krutrim-2&to={_day(0)}")
    page.locator(f'[data-event-id="{events[-1]["id"]}"] a').click()
    expect(page.locator("#why")).to_contain_text("holds since 1 Jan 2020, 00:00:00 IST")
    expect(page.locator("#hand li").first).to_have_text(
        re.compile("Prompt: 136 . ₹12.50 ÷ 10,00,000 = ₹0.0017")
    )
    expect(page.locator("#hand-sum")).to_contain_text("= ₹0.0081, exactly what was charged")
    expect(page.locator("#event")).to_contain_text("gateway/seen")
    page.get_by_role("link", name="All requests").click()
    expect(page).to_have_url(re.compile("model=krutrim-2"))


def test_another_orgs_request_and_a_bad_address_are_told_on_a_page(page: Page, busy: Org, long: Org) -> None:
    theirs = long.dashboard.shop.get("/me/activity/events?limit=1", long.name)["events"][0]["id"]
    busy.sign_in(page.context)
    for path, status in ((f"/activity/{theirs}", 404), ("/activity/80421", 404), ("/activity/none", 400)):
        answer = page.goto(f"{path}?model=krutrim-2")
        assert answer is not None and answer.status == status
        page.get_by_role("link", name="All requests").click()
        expect(page).to_have_url(re.compile(r"/activity\?model=krutrim-2"))
    answer = page.goto(f"/activity?from={_day(399)}&to={_day(0)}&model=krutrim-2")
    assert answer is not None and answer.status == 400
    expect(page.get_by_role("alert")).to_contain_text("are 400 days; 366 is the most")
    expect(page.get_by_label("Model", exact=True)).to_have_value("krutrim-2")
    expect(page.get_by_label("Model", exact=True).locator("option")).to_have_count(3)
    page.get_by_label("From", exact=True).fill(_day(3))
    page.get_by_role("button", name="Apply").click()
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "10")
    page.get_by_label("From", exact=True).fill(_day(500))
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("alert")).to_contain_text("366 is the most")


def test_what_is_empty_is_told_from_what_the_filters_leave_out_and_from_what_is_away(
    page: Page, product: Dashboard, busy: Org
) -> None:
    _open(page, product.org("100"))
    assert _value(page, "requests") == "0" and _value(page, "cost_inr") == "0"
    expect(page.locator("#nothing")).to_contain_text("No requests in these days")
    expect(page.locator("#nothing").get_by_role("link", name="make a key")).to_be_visible()
    _open(page, busy, "?model=none-such")
    expect(page.locator("#nothing")).to_contain_text("No request matches these filters")
    page.locator("#nothing").get_by_role("link", name="Clear the filters").click()
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "12")
    failing(page, "/me/activity/latency", unavailable(), times=1)
    page.reload()
    expect(page.locator("#latency-result")).to_contain_text("Nothing was lost")
    expect(page.locator('[data-metric="requests"]')).to_have_attribute("data-value", "12")
    expect(page.locator("[data-event-id]")).to_have_count(12)
    _look(page)
    expect(page.locator("#latency-result")).to_have_text("")
    expect(page.locator("#speed")).to_contain_text("2,500 ms")
    page.context.clear_cookies()
    _look(page)
    expect(page.locator("#page-result")).to_contain_text("Your session is over")
    assert _value(page, "requests") == "12"


@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_use_both_pages_at_every_width(page: Page, busy: Org, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, busy)
    chosen = f"/activity/{_ids(page)[-1]}"
    for path in ("/activity", chosen):
        page.goto(path)
        expect(page.locator(".waiting")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = "[...document.querySelectorAll('.scrolled')].filter((each) => !each.closest('details') && each.scrollWidth > each.clientWidth).map((each) => each.outerHTML)"
        assert page.evaluate(cut) == [], "a table hides columns"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert serious_findings(page) == [], (path, scheme)
