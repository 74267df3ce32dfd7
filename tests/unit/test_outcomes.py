"""The closed types of outcomes: what is documented of each, and what becomes of words of a newer release."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from pipeline.accounts.commands import CommandRefusal
from pipeline.outcomes import (
    DeadLetterReason,
    DisputeStatus,
    KeyRefusal,
    LedgerKind,
    MoneyOutcome,
    PaymentStatus,
    RefundStatus,
    RefusalCode,
)

CONTRACT = {
    "invalid_request": (400, "invalid_request_error"),
    "address_required": (400, "invalid_request_error"),
    "promo_invalid": (400, "invalid_request_error"),
    "promo_redeemed": (400, "invalid_request_error"),
    "duplicate_key_name": (400, "invalid_request_error"),
    "key_limit_reached": (400, "invalid_request_error"),
    "trial_ceiling": (400, "invalid_request_error"),
    "invalid_signature": (400, "invalid_request_error"),
    "no_session": (401, "authentication_error"),
    "invalid_api_key": (401, "authentication_error"),
    "insufficient_credits": (402, "billing_error"),
    "forbidden": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "budget_exceeded": (429, "rate_limit_error"),
    "daily_limit_reached": (429, "rate_limit_error"),
    "rate_limit_exceeded": (429, "rate_limit_error"),
    "internal": (500, "api_error"),
    "unavailable": (503, "unavailable_error"),
}
"""What callers branch on: these never change."""


def test_a_code_keeps_its_name_status_and_type() -> None:
    found = {code.value: (code.status, code.type) for code in RefusalCode}
    assert {code: found.get(code) for code in CONTRACT} == CONTRACT


@pytest.mark.parametrize("code", RefusalCode)
def test_every_code_says_when_it_is_given_and_what_to_do(code: RefusalCode) -> None:
    assert all((code.wording, code.when, code.remedy))
    assert msgspec.json.encode(code) == f'"{code}"'.encode()
    assert msgspec.json.decode(f'"{code}"', type=RefusalCode) is code


@pytest.mark.parametrize("reason", DeadLetterReason)
def test_every_reason_says_when_and_what_to_do(reason: DeadLetterReason) -> None:
    assert reason.when and reason.remedy
    assert DeadLetterReason.named(reason.value) is reason


def test_words_of_a_newer_worker_are_read() -> None:
    refusal = msgspec.json.decode(b'{"code":"org_frozen","message":"no"}', type=CommandRefusal)
    assert refusal == CommandRefusal(RefusalCode.REFUSED, "no")
    assert (refusal.code.status, DeadLetterReason.named("org_frozen")) == (400, None)
    assert msgspec.json.decode(b'"key_frozen"', type=KeyRefusal) is KeyRefusal.UNKNOWN


def test_a_window_is_refused_with_the_code_of_its_reason() -> None:
    assert {reason.value: reason.code for reason in KeyRefusal} == {
        "budget_exceeded": RefusalCode.BUDGET_EXCEEDED,
        "daily_limit_reached": RefusalCode.DAILY_LIMIT_REACHED,
        "key_refused": RefusalCode.KEY_REFUSED,
    }


def test_every_status_of_a_payment_and_a_refund_is_counted_under_its_own_label() -> None:
    payments = {MoneyOutcome.of_payment(status) for status in get_args(PaymentStatus)}
    refunds = {MoneyOutcome.of_refund(status) for status in get_args(RefundStatus)}
    disputes = {MoneyOutcome.of_dispute(status) for status in get_args(DisputeStatus)}
    assert payments | refunds | disputes | {MoneyOutcome.STRAY} == set(MoneyOutcome)
    assert {str(outcome) for outcome in payments} == {f"payment {s}" for s in get_args(PaymentStatus)}
    assert {str(outcome) for outcome in refunds} == {f"refund {s}" for s in get_args(RefundStatus)}


def test_the_kinds_of_the_ledger_are_those_of_its_rows() -> None:
    assert [kind.value for kind in LedgerKind] == ["promo", "topup", "refund", "dispute", "correction"]
