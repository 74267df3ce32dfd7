"""The billing page in a real browser, against the running product: what people see and do there."""

from __future__ import annotations

from datetime import datetime

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from pipeline.api.http.errors import unavailable
from pipeline.api.http.sessions import Role
from tests.support.product.dashboard import EMAIL, PROMO, Dashboard, Org, Sent, failing, losing
from tests.support.product.razorpay import ADDRESS


def _open(page: Page, org: Org, role: Role = "owner") -> None:
    org.sign_in(page.context, role)
    page.goto("/billing")
    expect(page.locator("#balance .waiting")).to_have_count(0)


def test_money_is_shown_digit_for_digit(page: Page, product: Dashboard) -> None:
    org = product.org("100", address=True)
    org.credit("999999999.12345678", '"credit_inr": 5 credit')
    org.credit("-0.0061", "<b>a reason</b> &amp;")
    org.credit("234566790.006100009", "the rest")
    payment_id = org.topped_up(1000)
    _open(page, org)
    expect(page.locator("#balance")).to_have_text("₹1,23,45,67,889.123456789")
    rows = page.locator("#entries tr")
    expect(rows.locator(".amount")).to_have_text(
        ["+₹1,000.00", "+₹23,45,66,790.006100009", "-₹0.0061", "+₹99,99,99,999.12345678", "+₹100.00"]
    )
    expect(rows.nth(2)).to_contain_text("<b>a reason</b> &amp;")
    expect(rows.nth(3)).to_contain_text('"credit_inr": 5')
    at = datetime.fromisoformat(org.billing()["entries"][0]["at"])
    expect(rows.nth(0).locator("time")).to_contain_text(f"{at:%-d %b %Y}".replace("Sep", "Sept"))
    expect(rows.nth(0).locator("time")).to_contain_text(f"{at:%H:%M}")
    link = rows.nth(0).get_by_role("link", name=f"Receipt for payment {payment_id}")
    expect(link).to_have_attribute("href", f"/me/billing/receipts/{payment_id}")
    expect(page.get_by_role("table", name="Money in and out").get_by_role("row")).to_have_count(6)


def test_a_refund_and_a_balance_below_zero_are_told_apart(page: Page, product: Dashboard) -> None:
    org = product.org("100", address=True)
    payment_id = org.topped_up(500)
    product.shop.refund(payment_id, 25_050)
    product.shop.until(lambda: len(org.billing()["entries"]) == 3, "the refund is not in the ledger")
    org.credit("-448.500000001", "taken back")
    _open(page, org)
    rows = page.locator("#entries tr")
    expect(rows.locator(".amount")).to_have_text(["-₹448.500000001", "-₹250.50", "+₹500.00", "+₹100.00"])
    expect(rows.locator(".after")).to_have_text(["-₹99.000000001", "₹349.50", "₹600.00", "₹100.00"])
    expect(rows.nth(1)).to_contain_text(payment_id)
    expect(page.locator("#balance")).to_have_text("-₹99.000000001")
    expect(page.locator("#balance-note")).to_contain_text("refused until a top-up")


def test_older_entries_come_on_demand(page: Page, product: Dashboard) -> None:
    org = product.org("100")
    for number in range(24):
        org.credit("1", f"number {number}")
    _open(page, org)
    rows, older = page.locator("#entries tr"), page.get_by_role("button", name="Show older")
    expect(rows).to_have_count(10)
    older.click()
    expect(rows).to_have_count(20)
    expect(page.locator("#ledger-result")).to_have_text("10 more entries.")
    older.click()
    expect(rows).to_have_count(25)
    expect(page.locator("#ledger-result")).to_have_text("5 more entries, that is all.")
    expect(older).to_be_hidden()


def test_the_pin_code_fills_in_and_may_be_corrected(page: Page, product: Dashboard) -> None:
    org = product.org()
    _open(page, org)
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
    kept = {"name": "Acme Labs", "line1": "12 Church Street", "city": "Bengaluru", "state": "Karnataka"}
    assert org.billing()["address"] == {**kept, "line2": None, "pin": "560001", "gstin": None}
    page.reload()
    expect(page.get_by_label("City")).to_have_value("Bengaluru")


def test_a_refused_field_is_marked_and_reached(page: Page, product: Dashboard) -> None:
    org = product.org(address=True)
    _open(page, org)
    page.get_by_label("GSTIN").fill("29ABCDE1234F1Z")
    page.get_by_role("button", name="Save the address").click()
    expect(page.locator("#address-result")).to_contain_text("Gstin is 15 characters")
    expect(page.get_by_label("GSTIN")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("GSTIN")).to_be_focused()
    page.get_by_label("Name or company").fill(" ")
    page.get_by_role("button", name="Save the address").click()
    expect(page.locator("#address-result")).to_contain_text("Name or company is missing")
    expect(page.get_by_label("GSTIN")).not_to_have_attribute("aria-invalid", "true")


def test_the_alert_is_set_to_the_paisa_and_cleared(page: Page, product: Dashboard) -> None:
    org, sent = product.org(), Sent(page)
    _open(page, org)
    expect(page.locator("#alert-now")).to_have_text("Off.")
    page.get_by_label("Mail me when the balance falls below").fill("1,200.10")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-now")).to_have_text("On, below ₹1,200.10.")
    expect(page.locator("#balance-note")).to_have_text("This is below your alert of ₹1,200.10.")
    page.reload()
    expect(page.locator("#alert-now")).to_have_text("On, below ₹1,200.10.")
    page.get_by_role("button", name="Turn the alert off").click()
    expect(page.locator("#alert-now")).to_have_text("Off.")
    expect(page.locator("#balance-note")).to_be_hidden()
    assert sent.bodies("/me/billing/threshold") == ['{"threshold_inr":1200.10}', '{"threshold_inr":null}']
    page.get_by_label("Mail me when the balance falls below").fill("soon")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-result")).to_contain_text("Put in an amount in rupees")


def test_a_top_up_from_promo_code_to_credit(page: Page, product: Dashboard) -> None:
    org, sent = product.org(address=True), Sent(page)
    foreign: list[str] = []
    ours = (product.url, "data:")
    page.on("request", lambda asked: None if asked.url.startswith(ours) else foreign.append(asked.url))
    _open(page, org)
    page.get_by_label("Promo code").fill("NOPE")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#promo-result")).to_have_text("This promo code is not valid.")
    page.get_by_label("Promo code").fill(PROMO)
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#promo-result")).to_have_text("NAMASTE adds ₹50.00 to this top-up.")
    page.get_by_role("button", name="₹1,000").click()
    page.get_by_role("button", name="₹500").click()
    assert foreign == []
    page.get_by_role("button", name="Pay ₹500").click()
    checkout = page.get_by_role("dialog", name="Test checkout")
    expect(checkout).to_contain_text("BharatRouter")
    # Checkout is the one thing from elsewhere, and only now.
    assert foreign == [product.checkout_url]
    checkout.get_by_role("button", name="Pay", exact=True).click()
    expect(page.locator("#top-up-result")).to_have_text(
        "₹500.00 added, and ₹50.00 from code NAMASTE. Thank you!"
    )
    expect(page.locator("#balance")).to_have_text("₹1,062.4939")
    expect(page.locator("#entries tr").locator(".amount")).to_contain_text(["₹50.00", "₹500.00"])
    assert sent.bodies("/me/billing/orders") == ['{"amount_inr":500,"promo_code":"NAMASTE"}']
    [order] = org.orders()
    assert (order["amount"], order["status"]) == (50_000, "paid")
    assert product.shop.payment_of(order["id"])["email"] == EMAIL


@pytest.mark.parametrize("amount", ["99", "1001", "", "12.5", "1e3", "-500", "\u0665\u0660\u0660"])
def test_an_amount_that_cannot_be_ordered_is_not(page: Page, product: Dashboard, amount: str) -> None:
    org, sent = product.org(address=True), Sent(page)
    _open(page, org)
    page.get_by_label("Amount in whole rupees").fill(amount)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("from 100 to 1,000")
    expect(page.get_by_label("Amount in whole rupees")).to_be_focused()
    assert sent.requests == []


def test_the_first_top_up_asks_for_an_address(page: Page, product: Dashboard) -> None:
    org, sent = product.org(), Sent(page)
    _open(page, org)
    expect(page.locator("#address-needed")).to_be_visible()
    page.locator("#pay").click()
    expect(page.locator("#address-result")).to_contain_text("Save your billing address first")
    expect(page.get_by_label("Name or company")).to_be_focused()
    assert sent.requests == []


def test_a_lost_answer_is_asked_again_with_the_same_key_and_has_one_effect(
    page: Page, product: Dashboard
) -> None:
    org, sent = product.org(address=True), Sent(page)
    losing(page, "/me/billing/orders", unavailable())
    lost = unavailable()
    lost.headers["Retry-After"] = "1"
    losing(page, "/me/billing/verify", lost)
    _open(page, org)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("Nothing was lost")
    page.locator("#pay").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.locator("#top-up-result")).to_have_text("₹500.00 added. Thank you!")
    first, again, verify, verify_again = sent.keys()
    assert first == again and verify == verify_again
    assert first != verify and len(first) == 32
    assert len(org.orders()) == 1
    assert [entry["kind"] for entry in org.billing()["entries"]] == ["topup", "correction", "promo"]


def test_a_lost_callback_still_shows_the_credit_of_the_webhook(page: Page, product: Dashboard) -> None:
    org = product.org(address=True)
    product.shop.hooks(lost=["*"])
    lost = unavailable()
    lost.headers["Retry-After"] = "1"
    failing(page, "/me/billing/verify", lost, times=5)
    _open(page, org)
    page.locator("#pay").click()
    page.get_by_role("button", name="Pay", exact=True).click()
    expect(page.locator("#top-up-result")).to_contain_text("you can close this page")
    product.shop.hooks()
    [order] = org.orders()
    assert product.shop.tell_captured(order) == 200
    expect(page.locator("#top-up-result")).to_have_text("₹500.00 added. Thank you!")


def test_failed_and_closed_payments_say_so(page: Page, product: Dashboard) -> None:
    org, sent = product.org(address=True), Sent(page)
    _open(page, org)
    page.locator("#pay").click()
    page.get_by_role("button", name="Fail").click()
    expect(page.locator("#top-up-result")).to_contain_text("Payment was not completed by the payer.")
    page.locator("#pay").click()
    expect(page.get_by_role("dialog", name="Test checkout")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#top-up-result")).to_contain_text("otherwise nothing was paid")
    page.locator("#pay").click()
    expect(page.get_by_role("dialog", name="Test checkout")).to_be_visible()
    assert sent.bodies("/me/billing/verify") == []


def test_a_spent_promo_code_is_told_before_any_money_moves(page: Page, product: Dashboard) -> None:
    org = product.org(address=True)
    org.topped_up(promo_code=PROMO)
    orders = org.orders()
    _open(page, org)
    page.get_by_label("Promo code").fill(PROMO.lower())
    page.locator("#pay").click()
    expect(page.locator("#promo-result")).to_have_text("The org has redeemed this promo code.")
    expect(page.locator("#top-up-result")).to_contain_text("Not ordered")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert org.orders() == orders


def test_checkout_that_does_not_load_can_be_tried_again(page: Page, product: Dashboard) -> None:
    org = product.org(address=True)
    page.route(product.checkout_url, lambda route: route.abort(), times=1)
    _open(page, org)
    page.locator("#pay").click()
    expect(page.locator("#top-up-result")).to_contain_text("could not be loaded")
    page.locator("#pay").click()
    expect(page.get_by_role("dialog", name="Test checkout")).to_be_visible()


@pytest.mark.parametrize("role", ["admin", "member"])
def test_others_than_owners_only_look(page: Page, product: Dashboard, role: Role) -> None:
    org = product.org("12.4939", address=True)
    product.shop.put("/me/billing/address", org.name, {**ADDRESS, "line2": "2nd floor", "gstin": None})
    product.shop.put("/me/billing/threshold", org.name, {"threshold_inr": 50})
    payment_id = org.topped_up()
    _open(page, org, role)
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    expect(page.locator("#address-shown")).to_have_text(
        "Asha Stores\n12 MG Road\n2nd floor\nBengaluru 560001\nKarnataka"
    )
    expect(page.locator("#alert-now")).to_have_text("On, below ₹50.00.")
    expect(page.locator("main form, main input")).to_have_count(0)
    expect(page.get_by_role("link", name=f"Receipt for payment {payment_id}")).to_be_visible()


def test_what_is_down_says_so_and_can_be_tried_again(page: Page, product: Dashboard) -> None:
    org = product.org()
    failing(page, "/me/billing", unavailable())
    org.sign_in(page.context)
    page.goto("/billing")
    expect(page.locator("#page-result")).to_contain_text("Nothing was lost")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#balance")).to_have_text("₹512.4939")
    expect(page.locator("#page-result")).to_be_empty()


def test_a_session_that_ends_leads_back_to_the_sign_in(page: Page, product: Dashboard) -> None:
    _open(page, product.org())
    page.context.clear_cookies()
    page.get_by_label("Mail me when the balance falls below").fill("50")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#alert-result")).to_have_text("Your session is over. Sign in again to go on.")


def test_signing_in_by_token_and_out_again(page: Page, product: Dashboard) -> None:
    answer = page.goto("/billing")
    assert answer is not None and answer.status == 401
    page.get_by_label("Session token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("Session token").fill(product.org().token())
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{product.url}/overview")
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("br_session", True, "Lax")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []


def test_a_link_opens_a_session_at_once_but_another_sites_link_asks_first(
    page: Page, product: Dashboard
) -> None:
    org = product.org()
    page.goto(f"/login?token={org.token()}")
    expect(page).to_have_url(f"{product.url}/overview")
    page.context.clear_cookies()
    page.goto("about:blank")
    page.set_content(f'<a href="{product.url}/login?token={org.token()}">come in</a>')
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name=f"Open {org.name}?")).to_be_visible()
    assert page.context.cookies() == []
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{product.url}/overview")


def test_a_page_of_another_site_changes_nothing(context: BrowserContext, product: Dashboard) -> None:
    org = product.org(address=True)
    org.sign_in(context)
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
    assert org.billing()["threshold_inr"] is None
    assert org.orders() == []
    page.close()


@pytest.fixture(scope="module")
def crowded(product: Dashboard) -> Org:
    """An org whose every text is as long as it may be."""
    org = product.org("-999999899.000000001", address=True)
    product.shop.put("/me/billing/address", org.name, {**ADDRESS, "name": "W" * 100})
    product.shop.put("/me/billing/threshold", org.name, {"threshold_inr": 600})
    org.topped_up(1000)
    org.credit("-0.000000001", "n" * 128)
    return org


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_every_width_and_every_text_can_be_read(
    page: Page, crowded: Org, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    _open(page, crowded)
    expect(page.locator("#entries tr")).to_have_count(4)
    page.get_by_role("button", name="Check").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_POOR_CONTRAST) == []
    assert page.evaluate(_UNLABELLED) == []


def test_the_keyboard_alone_is_enough(page: Page, product: Dashboard) -> None:
    _open(page, product.org(address=True))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.get_by_label("Amount in whole rupees").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Test checkout")).to_be_visible()


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
