"""The page of notices in a real browser, against the running product."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipeline.api.http.errors import unavailable
from pipeline.api.http.sessions import Role
from tests.support.accessibility import serious_findings
from tests.support.product.dashboard import Dashboard, Org, Sent, failing

URL = "https://hooks.acme.example/notices?token=of-acme"


def _open(page: Page, org: Org, role: Role = "owner") -> None:
    org.sign_in(page.context, role)
    page.goto("/notices")
    expect(page.locator(".waiting")).to_have_count(0)


def _notices(org: Org) -> Any:
    return org.dashboard.shop.get("/me/notices", org.name)


def _set(page: Page, url: str) -> str:
    """Set the webhook to a URL, and return the secret that is shown, once it is put away."""
    page.get_by_label("URL of your server").fill(url)
    page.get_by_role("button", name="Set the webhook").click()
    expect(page.get_by_role("heading", name="The webhook's signing secret")).to_be_visible()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#webhook-form-result")).to_contain_text("Notices are posted to")
    return secret


def test_each_kind_and_the_mails_are_switched_off_and_on(page: Page, product: Dashboard) -> None:
    org, sent = product.org(), Sent(page)
    _open(page, org)
    switches = page.get_by_role("switch")
    expect(switches).to_have_count(4)
    for switch in switches.all():
        expect(switch).to_be_checked()
    for label, name in (
        ("A key's budget", "budget_reached"),
        ("The statement of a month", "statement_ready"),
        ("An unusual hour", "unusual_hour"),
        ("By mail", "mail"),
    ):
        page.get_by_label(label).click()
        expect(page.get_by_label(label)).not_to_be_checked()
        assert not _notices(org)[name]
    expect(page.get_by_text("nothing is told to anybody")).to_be_visible()
    page.reload()
    expect(page.locator('[data-state="mail"]')).to_have_text("Off")
    page.get_by_label("By mail").focus()
    page.keyboard.press("Space")
    expect(page.locator("#webhook-result")).to_have_text("Mail: on.")
    expect(page.get_by_label("By mail")).to_be_focused()
    expect(page.get_by_text("nothing is told to anybody")).to_be_hidden()
    page.get_by_label("An unusual hour").click()
    expect(page.locator("#told-result")).to_have_text("Unusual hours: on.")
    chosen = {"mail": True, "budget_reached": False, "statement_ready": False, "unusual_hour": True}
    assert _notices(org) == {**chosen, "webhook_host": None}
    assert sent.bodies("/me/notices")[-2:] == ['{"mail":true}', '{"unusual_hour":true}']


def test_a_webhook_is_set_its_secret_shown_again_and_rotated(page: Page, product: Dashboard) -> None:
    org = product.org()
    _open(page, org)
    expect(page.locator('[data-state="webhook"]')).to_have_text("None")
    page.get_by_role("button", name="Set the webhook").click()
    expect(page.locator("#webhook-form-result")).to_have_text("Put in the URL of your server.")
    expect(page.get_by_label("URL of your server")).to_be_focused()
    page.get_by_label("URL of your server").fill(URL)
    page.get_by_role("button", name="Set the webhook").click()
    expect(page.get_by_role("heading", name="The webhook's signing secret")).to_be_visible()
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("whsec_") and len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    page.keyboard.press("Escape")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#secret-result")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.get_by_role("button", name="Done").click()
    expect(page.locator('[data-state="webhook"]')).to_have_text("hooks.acme.example")
    assert _notices(org)["webhook_host"] == "hooks.acme.example"
    page.reload()
    expect(page.get_by_role("button", name="Remove it")).to_be_visible()
    # Neither the secret nor what the URL may hold of one stays on the page.
    assert secret not in page.content() and "of-acme" not in page.content()
    assert _set(page, URL) == secret
    page.get_by_label("Make a new signing secret").check()
    rotated = _set(page, URL)
    assert rotated != secret
    assert _set(page, URL) == rotated


def test_a_url_that_is_refused_stays_with_the_reason(page: Page, product: Dashboard) -> None:
    org = product.org()
    _open(page, org)
    field, told = page.get_by_label("URL of your server"), page.locator("#webhook-form-result")
    for url, reason in (
        ("http://hooks.acme.example/", "must begin with https://"),
        ("https://10.0.0.8/", "names no address of the public internet"),
        ("https://[::ffff:169.254.169.254]/", "names no address of the public internet"),
        ("https://intranet/", "names no host of the public internet"),
        ("https://me:word@hooks.acme.example/", "must not hold a user or a password"),
    ):
        field.fill(url)
        page.get_by_role("button", name="Set the webhook").click()
        expect(told).to_contain_text(reason)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        expect(field).to_have_value(url)
    assert _notices(org)["webhook_host"] is None


def test_a_webhook_is_removed_only_after_a_question(page: Page, product: Dashboard) -> None:
    org = product.org()
    product.shop.put("/me/notices/webhook", org.name, {"url": URL})
    _open(page, org)
    page.get_by_role("button", name="Remove it").click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Nothing more is posted to hooks.acme.example")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Enter")
    assert _notices(org)["webhook_host"] == "hooks.acme.example"
    page.get_by_role("button", name="Remove it").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator('[data-state="webhook"]')).to_have_text("None")
    expect(page.locator("#webhook-form-result")).to_have_text("The webhook is removed.")
    expect(page.locator("#webhook-title")).to_be_focused()
    assert _notices(org)["webhook_host"] is None


def test_what_is_away_or_over_says_so_and_a_switch_stays_where_it_is(page: Page, product: Dashboard) -> None:
    failing(page, "/me/notices", unavailable())
    product.org().sign_in(page.context)
    page.goto("/notices")
    expect(page.locator("#page-result")).to_contain_text("Nothing was lost")
    expect(page.get_by_label("By mail")).to_be_disabled()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("By mail")).to_be_checked()
    page.context.clear_cookies()
    page.get_by_label("By mail").click()
    expect(page.locator("#webhook-result")).to_contain_text("Your session is over")
    expect(page.get_by_label("By mail")).to_be_checked()


@pytest.mark.parametrize("role", ["admin", "member"])
def test_others_than_owners_only_look(page: Page, product: Dashboard, role: Role) -> None:
    org = product.org()
    product.shop.put("/me/notices/webhook", org.name, {"url": URL})
    product.shop.call("PATCH", "/me/notices", org.name, {"unusual_hour": False})
    _open(page, org, role)
    expect(page.locator('[data-state="unusual_hour"]')).to_have_text("Off")
    expect(page.locator('[data-state="mail"]')).to_have_text("On")
    expect(page.locator('[data-state="webhook"]')).to_have_text("hooks.acme.example")
    expect(page.locator("main form, main input, main button, main dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_everyone_can_use_it_at_every_width(page: Page, product: Dashboard, width: int, scheme: str) -> None:
    org = product.org()
    host = "hooks." + "a" * 60 + ".example"
    product.shop.put("/me/notices/webhook", org.name, {"url": f"https://{host}/"})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, org)
    page.get_by_label("An unusual hour").click()
    expect(page.locator("#told-result")).to_have_text("Unusual hours: off.")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.get_by_role("link", name="Notices")).to_be_in_viewport(ratio=1)
    page.locator(".org").evaluate("org => { org.textContent = 'org_' + 'long'.repeat(12) }")
    expect(page.get_by_role("button", name="Sign out")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1280:
        tops = page.locator(".brand a, .org, .who button").evaluate_all("all => all.map(e => e.offsetTop)")
        assert max(tops) - min(tops) < 20, "the header is one line"
    assert serious_findings(page) == []
    page.get_by_label("URL of your server").fill(f"https://{host}/")
    page.get_by_role("button", name="Set the webhook").click()
    expect(page.locator("#secret")).to_be_visible()
    assert serious_findings(page) == []
    assert page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= width
