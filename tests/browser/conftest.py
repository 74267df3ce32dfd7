"""What browser tests share: the machine's own Chromium, and one running product with Razorpay's stand-in.

Chromium is Debian's package (`make browser`); METERING_TEST_CHROMIUM names another one. Where there is
none, these tests are skipped and say so.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.chromium import FLAGS, chromium_path
from tests.support.product.dashboard import Dashboard, dashboard
from tests.support.product.razorpay import shop
from tests.support.product.requests import price

TIMEOUT_MS = 20_000
"""How long a page may take on a machine that has much else to do, for whatever waits for it."""


@pytest.fixture(scope="package")
def chromium() -> str:
    """The path of Chromium; where there is none, the tests are skipped before anything is started."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here: `make browser` installs Debian's")
    return path


@pytest.fixture(scope="package")
def product(chromium: str) -> Iterator[Dashboard]:  # noqa: ARG001 - it comes first
    """The product of this folder; each test has orgs of its own."""
    with shop() as running, dashboard(running) as opened:
        price(opened)
        yield opened


# Not for the session: while Playwright is open no other event loop can run in its thread.
@pytest.fixture(scope="package")
def browser(chromium: str, product: Dashboard) -> Iterator[Browser]:  # noqa: ARG001 - it is started before
    """A running Chromium with a new profile."""
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, product: Dashboard) -> Iterator[BrowserContext]:
    """A browser profile of the test's own, which reaches the product and nothing else."""
    with browser.new_context(
        base_url=product.url, locale="en-IN", viewport={"width": 390, "height": 844}
    ) as context:
        context.set_default_timeout(TIMEOUT_MS)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen: no script error, no blocked or foreign request."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if _is_complaint(said.type, said.text) else None)
    yield page
    assert not wrong, wrong


def _is_complaint(kind: str, text: str) -> bool:
    # The browser itself notes every answer of 400 and above; the tests look at what the page makes of them.
    return kind == "error" and not text.startswith("Failed to load resource")
