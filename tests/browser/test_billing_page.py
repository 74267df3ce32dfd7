"""The billing page in a real browser: what people see and do there."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from pipeline.api.http.errors import ApiError, unavailable
from tests.browser.product import ADDRESS, Product, entry


def _open(page: Page, product: Product, role: str = "owner") -> None:
    product.sign_in(page.context, role)  # type: ignore[arg-type]
    page.goto("/billing")
    expect(page.locator("#balance .waiting")).to_have_count(0)


def test_money_is_shown_digit_for_digit(page: Page, product: Product) -> None:
    product.balance = "9223372036.854775807"
    product.entries = [
        entry(4, "topup", "1000", "123456.78", payment_id="pay_1", order_id="order_1"),
        entry(3, "correction", "-0.0061", "100000", note="<b>a reason</b> &amp;"),
        entry(2, "refund", "-250.5", "-99.000000001", payment_id="pay_0"),
        entry(1, "promo", "100", "100", note='signup "credit_inr": 5 credit'),
    ]
    _open(page, product)
    expect(page.locator("#balance")).to_have_text("₹9,22,33,72,036.854775807")
    rows = page.locator("#entries tr")
    expect(rows.locator(".amount")).to_have_text(["+₹1,000.00", "-₹0.0061", "-₹250.50", "+₹100.00"])
    after = ["₹1,23,456.78", "₹1,00,000.00", "-₹99.000000001", "₹100.00"]
    expect(rows.locator(".after")).to_have_text(after)
    expect(rows.nth(1)).to_contain_text("<b>a reason</b> &amp;")
    expect(rows.nth(3)).to_contain_text('"credit_inr": 5')
    expect(rows.nth(0).locator("time")).to_have_text(re.compile("5 Jun 2026,? 23:59"))
    link = rows.nth(0).get_by_role("link", name="Receipt for payment pay_1")
    expect(link).to_have_attribute("href", "/me/billing/receipts/pay_1")
    expect(page.get_by_role("table", name="Money in and out").get_by_role("row")).to_have_count(5)


def test_older_entries_come_on_demand(page: Page, product: Product) -> None:
    product.entries = [entry(number, "topup", "100", "100") for number in range(25, 0, -1)]
    _open(page, product)
    rows, older = page.locator("#entries tr"), page.get_by_role("button", name="Show older")
    expect(rows).to_have_count(10)
    older.click()
    expect(rows).to_have_count(20)
    expect(page.locator("#ledger-result")).to_have_text("10 more entries.")
    older.click()
    expect(rows).to_have_count(25)
    expect(page.locator("#ledger-result")).to_have_text("5 more entries, that is all.")
    expect(older).to_be_hidden()


def test_the_pin_code_fills_in_and_may_be_corrected(page: Page, product: Product) -> None:
    _open(page, product)
    page.get_by_label("Name or company").fill("Acme Labs")
    page.get_by_label("Address", exact=True).fill("12 Church Street")
    page.get_by_label("PIN code").fill("560001")
    expect(page.get_by_label("City")).to_have_value("Bengaluru Urban")
    expect(page.get_by_label("State")).to_have_value("Karnataka")
    page.get_by_label("City").fill("Bengaluru")
    page.get_by_label("PIN code").fill("560103")
    expect(page.locator("#pin-result")).to_contain_text("Bengaluru Urban, Karnataka")
    expect(page.get_by_label("City")).to_have_value("Bengaluru")
    page.get_by_label("PIN code").fill("999999")
    expect(page.locator("#pin-result")).to_contain_text("not known")
    page.get_by_label("PIN code").fill("560001")
    page.get_by_role("button", name="Save the address").click()
    expect(page.locator("#address-result")).to_have_text("The address is saved.")
    assert product.address == {**ADDRESS, "city": "Bengaluru"}
    page.reload()
    expect(page.get_by_label("City")).to_have_value("Bengaluru")


def test_a_refused_field_is_marked_and_reached(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    refusal = ApiError(400, "invalid_request", "gstin does not look like a GSTIN", param="gstin")
    product.failing["/me/billing/address"] = [refusal]
    _open(page, product)
    page.get_by_role("button", name="Save the address").click()
    expect(page.locator("#address-result")).to_have_text("Gstin does not look like a GSTIN.")
    expect(page.get_by_label("GSTIN")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("GSTIN")).to_be_focused()
    page.get_by_label("Name or company").fill(" ")
    page.get_by_role("button", name="Save the address").click()
    expect(page.locator("#address-result")).to_contain_text("Name or company is missing")
    expect(page.get_by_label("GSTIN")).not_to_have_attribute("aria-invalid", "true")


def test_the_alert_is_set_to_the_paisa_and_cleared(page: Page, product: Product) -> None:
    _open(page, product)
    expect(page.locator("#alert-now")).to_have_text("Off.")
    page.get_by_label("Mail me when the balance falls below").fill("1,200.10")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-now")).to_have_text("On, below ₹1,200.10.")
    expect(page.locator("#balance-note")).to_have_text("This is below your alert of ₹1,200.10.")
    page.get_by_role("button", name="Turn the alert off").click()
    expect(page.locator("#alert-now")).to_have_text("Off.")
    expect(page.locator("#balance-note")).to_be_hidden()
    assert product.bodies("/me/billing/threshold") == ['{"threshold_inr":1200.10}', '{"threshold_inr":null}']
    page.get_by_label("Mail me when the balance falls below").fill("soon")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-result")).to_contain_text("Put in an amount in rupees")


def test_a_top_up_from_promo_code_to_credit(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if _is_foreign(request, product) else None)
    _open(page, product)
    page.get_by_label("Promo code").fill("NOPE")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#promo-result")).to_have_text("This promo code is not valid.")
    page.get_by_label("Promo code").fill("NAMASTE")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#promo-result")).to_have_text("NAMASTE adds ₹50.00 to this top-up.")
    page.get_by_role("button", name="₹1,000").click()
    page.get_by_role("button", name="₹500").click()
    assert foreign == []
    page.get_by_role("button", name="Pay ₹500").click()
    checkout = page.get_by_role("dialog", name="Checkout")
    expect(checkout).to_contain_text("BharatRouter 50000 order_new asha@acme.example")
    # Checkout is the one thing from elsewhere, and only now.
    assert foreign == [product.url.replace("127.0.0.1", "localhost") + "/checkout.js"]
    checkout.get_by_role("button", name="Succeed").click()
    expect(page.locator("#top-up-result")).to_have_text("₹500.00 added. Thank you!")
    expect(page.locator("#balance")).to_have_text("₹1,012.4939")
    expect(page.locator("#entries tr").first).to_contain_text("+₹500.00")
    assert product.bodies("/me/billing/orders") == ['{"amount_inr":500,"promo_code":"NAMASTE"}']
    sent = '{"razorpay_order_id":"order_new","razorpay_payment_id":"pay_new","razorpay_signature":"s"}'
    assert product.bodies("/me/billing/verify") == [sent]


def _is_foreign(request: Request, product: Product) -> bool:
    return not request.url.startswith((product.url, "data:"))


@pytest.mark.parametrize("amount", ["99", "1001", "", "12.5", "1e3", "-500", "\u0665\u0660\u0660"])
def test_an_amount_that_cannot_be_ordered_is_not(page: Page, product: Product, amount: str) -> None:
    product.address = dict(ADDRESS)
    _open(page, product)
    page.get_by_label("Amount in whole rupees").fill(amount)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("from 100 to 1,000")
    expect(page.get_by_label("Amount in whole rupees")).to_be_focused()
    assert product.asked == []


def test_the_first_top_up_asks_for_an_address(page: Page, product: Product) -> None:
    _open(page, product)
    expect(page.locator("#address-needed")).to_be_visible()
    page.locator("#pay").click()
    expect(page.locator("#address-result")).to_contain_text("Save your billing address first")
    expect(page.get_by_label("Name or company")).to_be_focused()
    assert product.asked == []


def test_a_lost_answer_is_asked_again_with_the_same_key(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    product.failing["/me/billing/orders"] = [unavailable()]
    lost = unavailable()
    lost.headers["Retry-After"] = "1"
    product.failing["/me/billing/verify"] = [lost]
    _open(page, product)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("Nothing was lost")
    page.locator("#pay").click()
    page.get_by_role("button", name="Succeed").click()
    expect(page.locator("#top-up-result")).to_have_text("₹500.00 added. Thank you!")
    first, again, verify, verify_again = product.keys
    assert first == again and verify == verify_again
    assert first != verify and len(first) == 32


def test_a_lost_callback_still_shows_the_credit_of_the_webhook(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    product.credits = False
    _open(page, product)
    page.locator("#pay").click()
    page.get_by_role("button", name="Succeed").click()
    expect(page.locator("#top-up-result")).to_contain_text("you can close this page")
    product.entries.insert(0, entry(9, "topup", "500", "600", payment_id="pay_new", order_id="order_new"))
    expect(page.locator("#top-up-result")).to_have_text("₹500.00 added. Thank you!")


def test_failed_and_closed_payments_say_so(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    _open(page, product)
    page.locator("#pay").click()
    page.get_by_role("button", name="Fail").click()
    expect(page.locator("#top-up-result")).to_contain_text("The bank said no.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#top-up-result")).to_contain_text("otherwise nothing was paid")
    page.locator("#pay").click()
    expect(page.get_by_role("dialog", name="Checkout")).to_be_visible()
    assert product.bodies("/me/billing/verify") == []


def test_a_spent_promo_code_is_told_before_any_money_moves(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    _open(page, product)
    page.get_by_label("Promo code").fill("USED")
    page.locator("#pay").click()
    expect(page.locator("#promo-result")).to_have_text("The org has redeemed this promo code.")
    expect(page.locator("#top-up-result")).to_contain_text("Not ordered")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_checkout_that_does_not_load_can_be_tried_again(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    product.failing["/checkout.js"] = [unavailable()]
    _open(page, product)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("could not be loaded")
    page.locator("#pay").click()
    expect(page.get_by_role("dialog", name="Checkout")).to_be_visible()


@pytest.mark.parametrize("role", ["admin", "member"])
def test_others_than_owners_only_look(page: Page, product: Product, role: str) -> None:
    product.address, product.threshold = {**ADDRESS, "line2": "2nd floor"}, "50"
    product.entries = [entry(1, "topup", "100", "100", payment_id="pay_1")]
    _open(page, product, role)
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    expect(page.locator("#address-shown")).to_have_text(
        "Acme Labs\n12 Church Street\n2nd floor\nBengaluru Urban 560001\nKarnataka"
    )
    expect(page.locator("#alert-now")).to_have_text("On, below ₹50.00.")
    expect(page.locator("main form, main input")).to_have_count(0)
    expect(page.get_by_role("link", name="Receipt for payment pay_1")).to_be_visible()


def test_what_is_down_says_so_and_can_be_tried_again(page: Page, product: Product) -> None:
    product.failing["/me/billing"] = [unavailable()]
    product.sign_in(page.context)
    page.goto("/billing")
    expect(page.locator("#page-result")).to_contain_text("Nothing was lost")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    expect(page.locator("#page-result")).to_be_empty()


def test_a_session_that_ends_leads_back_to_the_sign_in(page: Page, product: Product) -> None:
    _open(page, product)
    page.context.clear_cookies()
    page.get_by_label("Mail me when the balance falls below").fill("50")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-result")).to_have_text("Your session is over. Sign in again to go on.")


def test_signing_in_by_token_and_out_again(page: Page, product: Product) -> None:
    answer = page.goto("/billing")
    assert answer is not None and answer.status == 401
    page.get_by_label("Session token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("Session token").fill(product.token())
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("br_session", True, "Lax")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []


def test_a_link_opens_a_session_at_once_but_another_sites_link_asks_first(
    page: Page, product: Product
) -> None:
    page.goto(f"/login?token={product.token()}")
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    assert page.url == f"{product.url}/billing"
    page.context.clear_cookies()
    page.goto("about:blank")
    page.set_content(f'<a href="{product.url}/login?token={product.token()}">come in</a>')
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Open org_acme?")).to_be_visible()
    assert page.context.cookies() == []
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#balance")).to_have_text("₹512.4939")


def test_a_page_of_another_site_changes_nothing(context: BrowserContext, product: Product) -> None:
    product.sign_in(context)
    page = context.new_page()
    elsewhere = product.url.replace("127.0.0.1", "localhost")
    page.goto(f"{elsewhere}/login")
    page.evaluate(
        """async (url) => {
            const asked = (type) => fetch(url, {method: "PUT", credentials: "include", mode: "cors",
                headers: {"Content-Type": type}, body: '{"threshold_inr": 1}'}).catch(() => 0);
            await asked("application/json");
            await fetch(url.replace("threshold", "orders"), {method: "POST", credentials: "include",
                mode: "no-cors", body: '{"amount_inr": 100, "promo_code": null}'}).catch(() => 0);
        }""",
        f"{product.url}/me/billing/threshold",
    )
    assert product.asked == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_every_width_and_every_text_can_be_read(
    page: Page, product: Product, width: int, scheme: str
) -> None:
    product.address, product.threshold = {**ADDRESS, "name": "W" * 100}, "600"
    product.entries = [
        entry(2, "topup", "1000", "-9223372036.854775807", payment_id="pay_" + "x" * 80, note="n" * 200),
        entry(1, "correction", "-0.000000001", "100", note="signup credit"),
    ]
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, product)
    page.get_by_role("button", name="Check").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_POOR_CONTRAST) == []
    assert page.evaluate(_UNLABELLED) == []


def test_the_keyboard_alone_is_enough(page: Page, product: Product) -> None:
    product.address = dict(ADDRESS)
    _open(page, product)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.get_by_label("Amount in whole rupees").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Checkout")).to_be_visible()


_UNLABELLED = """() => [...document.querySelectorAll("input, button, a[href]")]
    .filter((element) => !(element.labels?.length || element.textContent.trim() || element.ariaLabel))
    .map((element) => element.outerHTML)"""

# Contrast as WCAG 2 reckons it, of every text against the first opaque ground behind it.
_POOR_CONTRAST = """() => {
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const found = numbers(getComputedStyle(at).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own && element.tagName !== "INPUT") continue;
        const [one, other] = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
    }
    return poor;
}"""
