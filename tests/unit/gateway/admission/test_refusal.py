"""What a refused caller is told."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from pipeline import ist
from pipeline.accounts.model import Refused
from pipeline.accounts.verdicts import Verdict, decode_record
from pipeline.gateway.admission import refusal
from pipeline.outcomes import KeyRefusal
from tests.support.builders import NOW_MS


def test_a_spent_budget_names_the_amounts_and_when_it_resets() -> None:
    month = ist.month_of(NOW_MS)
    window = ist.month_start_ms(month), ist.month_end_ms(month)
    no = refusal.of_window(
        Refused("k", KeyRefusal.BUDGET_EXCEEDED, *window, 500_000_000_000, 500_006_100_000), NOW_MS
    )
    assert (no.code, no.http_status) == ("budget_exceeded", 429)
    assert no.retry_after == 18 * 86_400
    assert no.headers() == {"Retry-After": "1555200"}
    text = no.body().decode()
    assert '"spent_inr":500.0061' in text
    assert json.loads(text)["error"] == {
        "message": "the key's monthly budget is spent",
        "type": "rate_limit_error",
        "code": "budget_exceeded",
        "limit_inr": 500,
        "spent_inr": 500.0061,
        "resets_at": "2026-07-01T00:00:00.000+05:30",
    }


def test_a_budget_of_nothing_says_when_what_was_spent_counts_anew() -> None:
    no = refusal.of_window(
        Refused("k", KeyRefusal.BUDGET_EXCEEDED, 0, 253_402_300_800_000, 0, 500_000_000), NOW_MS
    )
    assert (no.limit_inr, no.spent_inr) == (0, Decimal("0.5"))
    assert no.resets_at == "2026-07-01T00:00:00.000+05:30"
    assert no.retry_after == 18 * 86_400


def test_seconds_are_rounded_up_and_never_zero() -> None:
    assert refusal.seconds_until(NOW_MS + 1, NOW_MS) == 1
    assert refusal.seconds_until(NOW_MS + 1001, NOW_MS) == 2
    assert refusal.seconds_until(NOW_MS - 5, NOW_MS) == 1


def test_no_credits_has_nothing_to_wait_for() -> None:
    assert refusal.NO_CREDITS.headers() == {}
    assert json.loads(refusal.NO_CREDITS.body())["error"]["code"] == "insufficient_credits"


def test_a_window_of_a_reason_that_only_a_newer_worker_knows_refuses_all_the_same() -> None:
    value = b'{"org":"org_1","balance_nano":5,"refused":[["k","key_frozen",0,253402300800000,7,8]]}'
    verdict = decode_record(b"org_1", value)
    assert isinstance(verdict, Verdict) and verdict.balance_nano == 5
    no = refusal.of_window(verdict.refused[0], NOW_MS)
    assert (no.code, no.http_status, no.limit_inr) == ("key_refused", 429, None)
    assert "requests of this IST day" not in no.message


@pytest.mark.parametrize("reason", KeyRefusal)
def test_each_reason_has_a_wording_of_its_own(reason: KeyRefusal) -> None:
    no = refusal.of_window(Refused("k", reason, 0, NOW_MS + 5_000, 5, 5), NOW_MS)
    assert (no.code, no.http_status, no.retry_after) == (reason.value, 429, 5)
    others = [Refused("k", other, 0, NOW_MS + 5_000, 5, 5) for other in KeyRefusal if other is not reason]
    assert no.message not in {refusal.of_window(window, NOW_MS).message for window in others}
