"""The signature of a webhook, by the specification's own example and by its own library."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from pipeline.webhook.signing import secret_of, secret_text, sign
from tests.support.builders import EXAMPLES
from tests.support.webhooks import SERVER_SECRET


def test_the_example_of_the_specification() -> None:
    """From the reference implementations' own tests."""
    secret = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    assert sign(secret, "msg_loFOjxBNrRLzqYUf", 1731705121, body) == (
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
    )


@EXAMPLES
@given(st.text(max_size=20), st.from_regex(r"[a-z0-9:_.]{1,40}", fullmatch=True), st.text(max_size=200))
def test_the_reference_library_verifies_what_is_signed_and_nothing_else(
    org: str, message_id: str, text: str
) -> None:
    org, text = org.encode(errors="replace").decode(), text.encode(errors="replace").decode()
    secret, at_s = secret_of(SERVER_SECRET, org, "nonce"), int(time.time())
    receiver = Webhook(secret_text(secret))
    signature = sign(secret, message_id, at_s, text.encode())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}
    receiver.verify(text, headers, json_parse=False)
    for name, value in (
        ("webhook-id", message_id + "x"),
        ("webhook-timestamp", str(at_s + 1)),
        ("webhook-signature", sign(secret_of(SERVER_SECRET, org, "other"), message_id, at_s, text.encode())),
    ):
        with pytest.raises(WebhookVerificationError):
            receiver.verify(text, {**headers, name: value}, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        receiver.verify(text + " ", headers, json_parse=False)


def test_another_org_another_nonce_and_another_servers_secret_have_another_secret() -> None:
    secrets = {
        secret_of(server, org, nonce)
        for server in ("a" * 32, "b" * 32)
        for org in ("org_1", "org_2")
        for nonce in ("1", "2")
    }
    assert len(secrets) == 8
    assert {len(secret) for secret in secrets} == {32}
