"""Webhooks, payments and mails that do not arrive as they should, and the money after their runbooks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mail import refusing
from tests.support.product.razorpay import OLD_WEBHOOK_SECRET, WEBHOOK_SECRET
from tests.support.product.world import World
from tests.support.runbooks.walk import Walk

HOUR_S = 180
"""What an hour of a rule's window is here."""
OTHER_SECRET = "a-webhook-secret-that-nobody-else-has"


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """A mail server that takes no mail for anybody."""
    with refusing() as url:
        yield url


def test_webhooks_under_another_secret_payments_of_another_amount_and_mails_that_are_refused(
    walk: Walk, refusing_url: str
) -> None:
    webhooks, payments, mails = "MeteringWebhookErrors", "MeteringPaymentMismatched", "MeteringMailFails"
    walk.quiet(webhooks, payments, mails)
    world, server = walk.world, walk.product.server
    assert server is not None
    for org in ("org_hooked", "org_wrong", "org_poor"):
        world.org(org)
    right = {
        name: server.environment[name] for name in ("METERING_SMTP_URL", "METERING_RAZORPAY_WEBHOOK_SECRET")
    }
    world.restart(server, METERING_SMTP_URL=refusing_url, METERING_RAZORPAY_WEBHOOK_SECRET=OTHER_SECRET)
    _is_scraped_since(walk, time.time())
    world.shop.hooks()
    world.shop.pay(world.shop.ordered("org_hooked", 500))
    settled, back = (
        world.shop.pay(world.shop.ordered("org_wrong", 500), amount=30_000)["payment"]["id"] for _ in range(2)
    )
    _falls_below_its_threshold(world, "org_poor")
    walk.fires(webhooks, payments, mails)
    # The server asks Razorpay by itself: the credit is there although no webhook was taken.
    world.balances["org_hooked"] += 500
    world.agrees("org_hooked")
    assert "org_poor" in walk.look(mails) and "refused" in walk.look(mails)
    named = walk.look(payments)
    assert settled in named and back in named
    # What the runbooks say of the secret and of the mail server is a setting of the server.
    secrets = f"{WEBHOOK_SECRET},{OLD_WEBHOOK_SECRET}"
    world.restart(
        server, METERING_SMTP_URL=right["METERING_SMTP_URL"], METERING_RAZORPAY_WEBHOOK_SECRET=secrets
    )
    assert back in walk.do(webhooks, "metering reconcile", code=1).text
    assert "captured" in walk.do(payments, "metering settle", PAYMENT_ID=settled).text
    world.shop.at_razorpay(f"/v1/payments/{back}/refund")
    world.balances["org_wrong"] += 300
    world.agrees("org_wrong")
    walk.until(lambda: back not in walk.look(payments), "what went back is no longer named", 30)
    walk.do(payments, "metering reconcile")
    before = _mails(world.mail_dir)
    _falls_below_its_threshold(world, "org_hooked")
    walk.until(lambda: _mails(world.mail_dir) > before, "a mail is taken")
    world.agrees("org_hooked", "org_wrong", "org_poor")
    walk.over(webhooks)
    walk.over(payments, mails, limit_s=HOUR_S + 60)


def _is_scraped_since(walk: Walk, at_s: float) -> None:
    """Wait until the server's counters were seen at 0, so that what they count next is an increase."""
    seen = f'metering_mail_total{{outcome="refused"}} == 0 and on (instance) timestamp(up{{job="server"}} == 1) > {at_s}'
    walk.until(lambda: bool(walk.prometheus.instant(seen, time.time())), "the server is scraped", 30)


def _falls_below_its_threshold(world: World, org: str) -> None:
    """Have an org spend down to where it wanted to be told."""
    world.shop.put("/me/billing/threshold", org, {"threshold_inr": 90})
    spent = world.balances[org] - 80
    world.metering("credit", org, "--inr", f"-{spent}", "--reason", "spent")
    world.balances[org] -= spent


def _mails(directory: Path) -> int:
    return len(list(directory.glob("*.eml")))
