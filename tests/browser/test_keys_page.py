"""The page of keys and access tokens in a real browser, against the running product."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from pipeline.api.http.errors import ApiError, unavailable
from pipeline.api.http.sessions import Role
from pipeline.outcomes import RefusalCode
from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org, Sent, failing, losing
from tests.support.product.requests import request, send


def _open(page: Page, org: Org, role: Role = "owner") -> None:
    org.sign_in(page.context, role)
    page.goto("/keys")
    expect(page.locator(".waiting")).to_have_count(0)


def _keys(org: Org) -> list[Any]:
    found: list[Any] = org.dashboard.shop.get("/me/keys", org.name)["keys"]
    return found


def _dialog(page: Page) -> Locator:
    return page.locator("dialog[open]")


@pytest.fixture(scope="module")
def busy(product: Dashboard) -> Org:
    """An org with a key near its budget, one that is used up, a trial key, a revoked key, and tokens."""
    org = product.org("100")
    post = product.shop.post
    near = post(
        "/me/keys", org.name, {"name": "near", "budget_inr": 0.0095, "expires_days": 7, "rpm_limit": 60}
    )
    spent = post("/me/keys", org.name, {"name": "<b>spent</b>", "budget_inr": 0.001, "daily_limit": 1})
    post("/me/keys", org.name, {"name": "trying", "tier": "trial"})
    gone = post("/me/keys", org.name, {"name": "gone"})
    product.shop.call("PATCH", f"/me/keys/{gone['key_id']}", org.name, {"revoked": True})
    post("/me/tokens", org.name, {"name": "books", "expires_days": 300})
    send(org, [request(org, data__key_id=key["key_id"]) for key in (near, spent)])
    return org


def test_its_numbers_are_the_apis(page: Page, busy: Org) -> None:
    _open(page, busy)
    lines = page.locator("#keys > li")
    in_force = [key for key in _keys(busy) if not key["revoked"]]
    expect(lines).to_have_count(len(in_force))
    for line, key in zip(lines.all(), in_force, strict=True):
        expect(line.locator(".name")).to_have_text(key["name"])
        expect(line.locator("[data-value]")).to_have_attribute("data-value", str(key["spent_this_month_inr"]))
        expect(line.locator("code")).to_have_text(f"{key['prefix']}…")
    near, spent, trial = lines.all()
    expect(near).to_contain_text("60 at most")
    expect(near).to_contain_text("in 7 days")
    expect(near).to_contain_text(re.compile(r"Today1 request"))
    expect(near).to_contain_text(re.compile(r"Last used(less than a|\d) minute"))
    expect(spent).to_contain_text("Budget of ₹0.001 is spent")
    expect(spent).to_contain_text("Refused: budget spent")
    expect(trial).to_contain_text("Not in the last year")
    expect(page.locator("#keys-count")).to_have_text("3 of 5 in force.")
    page.get_by_text("Revoked and expired keys").click()
    expect(page.locator("#keys-past li")).to_contain_text("gone")
    expect(page.locator("#tokens > li .name")).to_have_text("books")
    expect(page.locator("#fresh")).to_contain_text("IST, ")


def test_a_key_is_made_and_shown_once(page: Page, product: Dashboard) -> None:
    org, sent = product.org("100"), Sent(page)
    _open(page, org)
    expect(page.locator("#keys-none")).to_be_visible()
    page.get_by_role("button", name="New key").click()
    dialog = _dialog(page)
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.locator("#key-form-result")).to_have_text("Give it a name.")
    dialog.get_by_label("Name").fill("ci")
    dialog.get_by_label("Budget a month").fill("1,200.50")
    dialog.get_by_role("textbox", name="Requests a day").fill("many")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_role("textbox", name="Requests a day")).to_be_focused()
    dialog.get_by_role("textbox", name="Requests a day").fill("500")
    dialog.get_by_label("Expires").select_option("30")
    # The answer is lost: it is asked again with the same Idempotency-Key, and one key is made.
    losing(page, "/me/keys", ApiError(RefusalCode.UNAVAILABLE))
    dialog.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    api_key = page.locator("#secret").inner_text()
    made = _keys(org)
    assert [(key["name"], key["prefix"]) for key in made] == [("ci", api_key[:12])]
    assert (made[0]["budget_inr"], made[0]["daily_limit"]) == (1200.5, 500)
    assert len(set(sent.keys())) == 1 and len(sent.bodies("/me/keys")) == 2
    expect(page.locator("#secret-curl")).to_contain_text(f"Authorization: Bearer {api_key}")
    expect(page.locator("#secret-curl")).to_contain_text("/v1/chat/completions")
    page.keyboard.press("Escape")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#secret-result")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == api_key
    page.get_by_role("button", name="Done").click()
    assert api_key not in page.content() and page.locator("#secret").inner_text() == ""


def test_a_key_that_may_have_been_made_is_made_once_when_it_is_asked_for_again(
    page: Page, product: Dashboard
) -> None:
    org, sent = product.org("100"), Sent(page)
    page.clock.install()
    _open(page, org)
    losing(page, "/me/keys", ApiError(RefusalCode.UNAVAILABLE), times=5)
    page.get_by_role("button", name="New key").click()
    _dialog(page).get_by_label("Name").fill("ci")
    _dialog(page).get_by_role("button", name="Make the key").click()
    told = page.locator("#key-form-result")
    for _ in range(200):
        if "does not work right now" in told.inner_text():
            break
        page.clock.run_for(500)
    _dialog(page).get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    assert len(sent.bodies("/me/keys")) == 6 and len(set(sent.keys())) == 1
    assert len(_keys(org)) == 1


def test_a_key_is_changed_and_revoked(page: Page, product: Dashboard) -> None:
    org, sent = product.org("100"), Sent(page)
    given = {"name": "ci", "budget_inr": 1200.5, "daily_limit": 500, "expires_days": 30}
    made = product.shop.post("/me/keys", org.name, given)
    _open(page, org)
    line = page.locator("#keys > li")
    line.get_by_role("button", name="Change").click()
    dialog = _dialog(page)
    expect(dialog.get_by_label("Budget a month")).to_have_value("1200.5")
    expect(dialog.get_by_label("Trial")).to_be_hidden()
    dialog.get_by_label("Budget a month").fill("")
    dialog.get_by_role("textbox", name="Requests a minute").fill("60")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("#keys-result")).to_contain_text("“ci” is changed.")
    assert sent.bodies(made["key_id"]) == ['{"budget_inr":null,"rpm_limit":"60"}']
    changed = _keys(org)[0]
    assert (changed["budget_inr"], changed["rpm_limit"]) == (None, 60)
    assert changed["expires_at"] == made["expires_at"]

    line.get_by_role("button", name="Revoke").click()
    expect(_dialog(page)).to_contain_text("Revoke “ci”?")
    expect(_dialog(page).get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    assert not _keys(org)[0]["revoked"]
    line.get_by_role("button", name="Revoke").click()
    _dialog(page).get_by_role("button", name="Revoke").click()
    expect(page.locator("#keys-result")).to_have_text("“ci” is revoked.")
    expect(line).to_have_count(0)
    expect(page.locator("#keys-title")).to_be_focused()
    assert _keys(org)[0]["revoked"]


def test_a_token_is_made_reads_and_is_revoked(page: Page, product: Dashboard) -> None:
    org = product.org("100")
    _open(page, org)
    page.get_by_role("button", name="New token").click()
    dialog = _dialog(page)
    dialog.get_by_label("Name").fill("books")
    dialog.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("heading", name="Your new access token")).to_be_visible()
    token = page.locator("#secret").inner_text()
    expect(page.locator("#secret-curl")).to_contain_text(f"{product.url}/me/usage")

    def status() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.get(f"{product.url}/me/usage", headers=headers, trust_env=False, timeout=20).status_code

    assert token.startswith("brt-") and status() == 200
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="New token").click()
    dialog.get_by_label("Name").fill("books")
    dialog.get_by_role("button", name="Make the token").click()
    expect(dialog.locator("#token-form-result")).to_contain_text("named 'books' already")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_role("button", name="Cancel").click()
    page.locator("#tokens").get_by_role("button", name="Revoke").click()
    _dialog(page).get_by_role("button", name="Revoke").click()
    expect(page.locator("#tokens-none")).to_be_visible()
    assert status() == 401


def test_a_member_sees_and_is_told_who_changes(page: Page, busy: Org) -> None:
    _open(page, busy, "member")
    expect(page.get_by_text("You are a member of this org")).to_be_visible()
    expect(page.locator("#keys > li")).to_have_count(3)
    expect(page.locator("main button, main dialog")).to_have_count(0)


def test_a_part_that_is_away_leaves_the_rest(page: Page, busy: Org) -> None:
    for path in ("/me/tokens", "/me/keys/use", "/me/usage"):
        failing(page, path, unavailable(), times=1)
    _open(page, busy)
    expect(page.locator("#tokens-part")).to_contain_text("Nothing was lost")
    expect(page.locator("#keys > li")).to_have_count(3)
    expect(page.locator("#keys > li").first).to_contain_text("Last usedNot known now")
    page.context.clear_cookies()
    page.locator("#keys > li").first.get_by_role("button", name="Revoke").click()
    _dialog(page).get_by_role("button", name="Revoke").click()
    expect(page.locator("#revoke-result")).to_contain_text("Your session is over")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everyone_can_use_it_at_every_width(page: Page, busy: Org, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, busy)
    page.get_by_text("Revoked and expired keys").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_findings(page) == []
    for button in ("New key", "New token"):
        page.get_by_role("button", name=button).click()
        assert serious_findings(page) == []
        assert page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= width
        _dialog(page).get_by_role("button", name="Cancel").click()
