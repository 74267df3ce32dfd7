"""Razorpay's messages as its documentation shows them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pipeline.razorpay.entities import bounded, decode_order, decode_payment, decode_webhook, event_of


def _payment(**changes: Any) -> bytes:
    fields = {
        "id": "pay_1",
        "entity": "payment",
        "amount": 50_000,
        "currency": "INR",
        "status": "captured",
        "order_id": "order_1",
        "captured": True,
        "method": "card",
        "card": {"last4": "1111"},
        "email": None,
        "contact": 919900000001,
        "created_at": 1_700_000_000,
        "amount_refunded": None,
    }
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    ("status", "captured", "is_captured"),
    [
        ("captured", True, True),
        ("captured", None, True),
        ("refunded", True, True),
        ("refunded", False, False),
        ("authorized", False, False),
        ("failed", False, False),
        ("created", None, False),
    ],
)
def test_only_money_that_came_in_counts(status: str, captured: object, is_captured: bool) -> None:
    assert decode_payment(_payment(status=status, captured=captured)).is_captured is is_captured


def test_empty_notes_are_an_array() -> None:
    order = decode_order(b'{"id": "order_1", "amount": 1, "notes": []}')
    assert order.note("org") is None
    assert decode_order(b'{"id": "o", "amount": 1, "notes": {"org": 5, "x": ""}}').note("org") is None


def test_a_webhook_holds_what_it_contains() -> None:
    body = b'{"event": "refund.created", "payload": {"payment": {"entity": %s}}}' % _payment()
    webhook = decode_webhook(body)
    assert webhook.payment is not None and webhook.payment.id == "pay_1" and webhook.refund is None
    assert event_of(b'{"event": "subscription.charged", "payload": {"payment": 7}}') == "subscription.charged"
    for nonsense in (b"", b"[]", b"{}", b'{"event": 1}', b"\xff"):
        with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
            event_of(nonsense)


def test_texts_are_cut_to_what_a_command_carries() -> None:
    assert bounded(None) == "" and bounded(91) == "91" and len(bounded("x" * 1000)) == 256
