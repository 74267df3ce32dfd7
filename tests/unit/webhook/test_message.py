"""What a webhook carries: exact amounts, the same bytes each time, and nothing taken for a message that is none."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest

from pipeline.accounts.notices import LowBalance, encode_webhook
from pipeline.formats import NewerFormatError
from pipeline.webhook.message import NoMessageError, body_of, decode
from tests.support.webhooks import MESSAGE


def test_a_budget_is_told_with_exact_amounts() -> None:
    body = json.loads(body_of(MESSAGE), parse_float=Decimal)
    assert body == {
        "type": "budget.reached",
        "timestamp": "2026-06-12T23:59:59.123+05:30",
        "data": {
            "org": "org_1",
            "key_id": "key_1",
            "key_name": "ci",
            "month": "2026-06",
            "percent": 80,
            "budget_inr": 500,
            "spent_inr": Decimal("401.250000001"),
        },
    }


def test_every_try_sends_the_same_bytes() -> None:
    assert body_of(MESSAGE) == body_of(decode(encode_webhook(MESSAGE)))


def test_neither_url_nor_nonce_is_in_the_body() -> None:
    other = msgspec.structs.replace(MESSAGE, url="https://elsewhere.example/secret", nonce="other")
    assert body_of(other) == body_of(MESSAGE)


def test_a_low_balance_could_be_told_too() -> None:
    body = json.loads(body_of(msgspec.structs.replace(MESSAGE, about=LowBalance(-1, 5 * 10**9))))
    assert body["type"] == "balance.low"


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"format":1,"id":5}'])
def test_what_is_no_message_is_refused_and_not_repeated(value: bytes | None) -> None:
    with pytest.raises(NoMessageError) as refused:
        decode(value)
    assert "{" not in str(refused.value)


def test_a_newer_message_is_refused() -> None:
    with pytest.raises(NewerFormatError):
        decode(b'{"format":2}')
