"""Our signatures are Razorpay's, checked against its own library, and no flipped byte passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.razorpay.signatures import is_callback_signed, is_webhook_signed, sign, sign_callback
from tests.support.builders import EXAMPLES

SECRET = "a key secret"
IDS = st.text(st.characters(codec="ascii", exclude_characters="|", min_codepoint=33), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def official() -> Any:
    """The official library's own checks."""
    razorpay = pytest.importorskip("razorpay")
    return razorpay.Client(auth=("key", SECRET)).utility


@EXAMPLES
@given(IDS, IDS)
def test_a_callbacks_signature_is_the_official_one(official: Any, order_id: str, payment_id: str) -> None:
    signature = sign_callback(order_id, payment_id, SECRET)
    parameters = {
        "razorpay_order_id": order_id,
        "razorpay_payment_id": payment_id,
        "razorpay_signature": signature,
    }
    assert official.verify_payment_signature(parameters)
    assert is_callback_signed(order_id, payment_id, signature, SECRET)


@EXAMPLES
@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_webhooks_signature_is_the_official_one(official: Any, body: str, secret: str) -> None:
    signature = sign(body.encode(), secret)
    assert official.verify_webhook_signature(body, signature, secret)
    assert is_webhook_signed(body.encode(), signature, ["other", secret])
    assert not is_webhook_signed(body.encode(), signature, [secret + "x", "other"])


def test_no_flipped_bit_of_a_signature_or_a_body_passes() -> None:
    body = b'{"event": "payment.captured", "payload": {}}'
    signature = sign(body, SECRET)
    callback = sign_callback("order_1", "pay_1", SECRET)
    for place in range(len(signature)):
        for bit in range(8):
            wrong = signature[:place] + chr(ord(signature[place]) ^ (1 << bit)) + signature[place + 1 :]
            assert not is_webhook_signed(body, wrong, [SECRET])
            wrong = callback[:place] + chr(ord(callback[place]) ^ (1 << bit)) + callback[place + 1 :]
            assert not is_callback_signed("order_1", "pay_1", wrong, SECRET)
    for place in range(len(body)):
        for bit in range(8):
            other = body[:place] + bytes([body[place] ^ (1 << bit)]) + body[place + 1 :]
            assert not is_webhook_signed(other, signature, [SECRET])


@pytest.mark.parametrize("given_signature", ["", "0", "é" * 64, "\udcff", "A" * 64, "0" * 63, "0" * 65])
def test_nonsense_is_no_signature(given_signature: str) -> None:
    assert not is_webhook_signed(b"{}", given_signature, [SECRET])
    assert not is_callback_signed("o", "p", given_signature, SECRET)


def test_no_secret_signs_nothing() -> None:
    assert not is_webhook_signed(b"{}", sign(b"{}", ""), [])
    assert not is_webhook_signed(b"{}", sign(b"{}", ""), ["", ""])


def test_order_and_payment_cannot_trade_places() -> None:
    signature = sign_callback("a", "b", SECRET)
    assert not is_callback_signed("b", "a", signature, SECRET)
    assert not is_callback_signed("a|b", "", signature, SECRET)
