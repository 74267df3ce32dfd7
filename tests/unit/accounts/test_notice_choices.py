"""What an org chooses to be told of, and where."""

from __future__ import annotations

import json
from typing import Any

from pipeline.accounts.commands import (
    ChangeKey,
    CommandRefusal,
    CreateKey,
    SetNotices,
    SetWebhook,
    SignUp,
    View,
)
from pipeline.accounts.decide import decide
from pipeline.accounts.ledger import Posting
from pipeline.accounts.model import Account, decode_profile, encode_profile
from pipeline.accounts.notices import NoticeSettings, WebhookTarget
from pipeline.accounts.results import NoticesSet, WebhookSet
from pipeline.webhook.message import decode
from tests.support.billing import ORG, Shop
from tests.support.builders import COST_NANO, NOW_MS, Books, event, packed

URL = "https://hooks.acme.example/notices"


def _after(account: Account, command: Any) -> Any:
    posting = decide(account, command, NOW_MS)
    assert isinstance(posting, Posting)
    assert posting.profile is not None
    account.profile = posting.profile
    return posting.result


def test_by_default_all_is_told_by_mail_and_what_is_given_is_switched() -> None:
    account = Account(ORG)
    assert account.profile.notices == NoticeSettings(mail=True, budget_reached=True, webhook=None)
    assert _after(account, SetNotices("1", ORG, {"mail": False})) == NoticesSet(mail=False)
    assert _after(account, SetNotices("2", ORG, {"budget_reached": False})) == NoticesSet(
        mail=False, budget_reached=False
    )
    assert _after(account, SetNotices("3", ORG, {"mail": True})) == NoticesSet(budget_reached=False)
    assert decode_profile(encode_profile(account.profile)) == account.profile


def test_the_same_url_keeps_its_secret_unless_a_new_one_is_asked_for() -> None:
    account = Account(ORG)
    assert _after(account, SetWebhook("1", ORG, URL, "first")) == WebhookSet(URL, "first")
    assert _after(account, SetWebhook("2", ORG, URL, "second")) == WebhookSet(URL, "first")
    assert _after(account, SetWebhook("3", ORG, URL, "third", new_secret=True)) == WebhookSet(URL, "third")
    assert _after(account, SetWebhook("4", ORG, URL + "/2", "fourth")) == WebhookSet(URL + "/2", "fourth")
    assert account.profile.notices.webhook == WebhookTarget(URL + "/2", "fourth")
    assert decode_profile(encode_profile(account.profile)) == account.profile
    assert _after(account, SetWebhook("5", ORG, None)) == WebhookSet(None, "")
    assert account.profile.notices.webhook is None


def test_members_see_the_host_and_not_the_url() -> None:
    shop = Shop()
    shop.do(SetWebhook("1", ORG, URL + "?token=secret", "n"))
    view = shop.do(View("2", ORG))["result"]
    assert view["notices"] == {
        "mail": True,
        "budget_reached": True,
        "statement_ready": True,
        "unusual_hour": True,
        "webhook_host": "hooks.acme.example",
    }
    assert "secret" not in json.dumps(view)


def test_a_url_that_is_none_is_refused_and_changes_nothing() -> None:
    refusal = decide(Account(ORG), SetWebhook("1", ORG, "http://hooks.acme.example", "n"), NOW_MS)
    assert isinstance(refusal, CommandRefusal)
    assert refusal.param == "url"


def test_a_webhook_is_ordered_beside_the_mail_with_the_same_id_and_instead_where_mails_are_off() -> None:
    books = Books()
    books.send(SignUp("s", ORG, "Acme", "asha@acme.example"), SetWebhook("w", ORG, URL, "nonce"))
    books.send(CreateKey("k", ORG, "key_1", "ci", "br-", "h", budget_nano=COST_NANO))
    output = books.publish(packed(event("e1")))
    [(key, value)] = output.webhooks
    [(_, mail)] = output.mail
    message = decode(value)
    assert (key, message.url, message.nonce) == (ORG.encode(), URL, "nonce")
    assert json.loads(mail)["id"] == message.id
    books.send(SetNotices("n", ORG, {"mail": False}))
    raised = books.send(ChangeKey("c", ORG, "key_1", budget_nano=COST_NANO + 1))
    assert (len(raised.webhooks), len(raised.mail)) == (1, 0)
