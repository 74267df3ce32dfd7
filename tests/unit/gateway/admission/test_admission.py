"""Admission: every refusal, keys, reservations and staleness, by a clock of the test's own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import pytest

from pipeline import ist
from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import Refused
from pipeline.accounts.verdicts import Verdict, VerdictProgress
from pipeline.gateway.admission.admission import Admission
from pipeline.money import NANO_PER_RUPEE, AmountError
from pipeline.outcomes import KeyRefusal
from tests.support.builders import NOW_MS

RUPEE = NANO_PER_RUPEE


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def admission(
    clock: Clock | None = None,
    when_stale: Literal["open", "closed"] = "open",
    *,
    heard: bool = True,
    unread_limit_ms: int = 0,
) -> Admission:
    clock = clock or Clock()
    made = Admission(
        clock,
        when_stale=when_stale,
        stale_after_ms=10_000,
        reservation_limit_ms=60_000,
        unread_limit_ms=unread_limit_ms,
    )
    if heard:
        made.caught_up(clock.now_ms)
    return made


def key(key_id: str = "key_1", **changes: Any) -> KeyRecord:
    fields: dict[str, Any] = {
        "org": "org_1",
        "key_id": key_id,
        "name": "n",
        "prefix": "br-000000000",
        "hash": f"hash of {key_id}",
        "tier": "standard",
        "created_ms": 0,
    }
    return KeyRecord(**{**fields, **changes})


def code(made: Admission, *args: Any, **kwargs: Any) -> str | None:
    refused = made.admit(*args, **kwargs)
    return refused.code if refused is not None else None


# --- the balance ---


@pytest.mark.parametrize(
    ("balance_nano", "expected"),
    [(1, None), (0, "insufficient_credits"), (-5, "insufficient_credits"), (10**15, None)],
)
def test_a_standard_key_needs_a_balance_above_zero(balance_nano: int, expected: str | None) -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", balance_nano, ()))
    assert code(made, "org_1", "key_1") == expected
    assert code(made, "org_1", "key_1", byok=True) is None
    assert code(made, "org_1", "key_1", tier="trial") is None


@pytest.mark.parametrize("free", ["0", 0, Decimal(0), "0.000000000"])
@pytest.mark.parametrize("balance_nano", [0, -(10**12), None])
def test_a_request_of_a_route_that_costs_nothing_needs_no_balance(
    free: str | int | Decimal, balance_nano: int | None
) -> None:
    made = admission()
    if balance_nano is not None:
        made.take_verdict(Verdict("org_1", balance_nano, ()))
    assert code(made, "org_1", "key_1", max_cost_inr=free) is None
    assert made.reservations_open == 0
    assert code(made, "org_1", "key_1", max_cost_inr="0.000000001") == "insufficient_credits"
    assert code(made, "org_1", "key_1") == "insufficient_credits"


def test_a_route_that_costs_nothing_is_held_to_the_limits_of_the_key_all_the_same() -> None:
    made = admission()
    made.take_verdict(
        Verdict("org_1", 0, (Refused("key_1", KeyRefusal.DAILY_LIMIT_REACHED, 0, NOW_MS + 1000, 1, 1),))
    )
    assert code(made, "org_1", "key_1", max_cost_inr="0") == "daily_limit_reached"


def test_an_org_that_nobody_knows_has_no_credits_once_everything_is_read() -> None:
    made = admission(heard=False)
    assert code(made, "stranger", "key_1") is None
    made.caught_up(NOW_MS)
    assert code(made, "stranger", "key_1") == "insufficient_credits"
    assert code(made, "stranger", "key_1", byok=True) is None


def test_a_top_up_opens_again() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 0, ()))
    assert code(made, "org_1", "key_1") == "insufficient_credits"
    made.take_verdict(Verdict("org_1", 100 * RUPEE, ()))
    assert code(made, "org_1", "key_1") is None


def test_above_a_thousand_rupees_a_sixteenth_of_what_was_told_is_not_relied_on() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 1600 * RUPEE, ()))
    assert code(made, "org_1", "key_1", max_cost_inr="1500.000000001") == "insufficient_credits"
    assert code(made, "org_1", "key_1", max_cost_inr="1500") is None


# --- keys and windows ---


def test_a_revoked_or_expired_key_is_refused_and_cannot_authenticate() -> None:
    clock = Clock()
    made = admission(clock)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.take_key(key(expires_ms=NOW_MS + 1))
    found = made.key_of_hash("hash of key_1")
    assert found is not None and found.key_id == "key_1"
    assert code(made, "org_1", "key_1") is None
    clock.now_ms += 1
    refused = made.admit("org_1", "key_1")
    assert refused is not None
    assert (refused.code, refused.http_status, refused.retry_after) == ("invalid_api_key", 401, None)
    assert made.key_of_hash("hash of key_1") is None
    made.take_key(key(version=2))
    assert code(made, "org_1", "key_1") is None
    made.take_key(key(version=3, revoked=True))
    assert code(made, "org_1", "key_1", byok=True) == "invalid_api_key"
    assert made.key_of_hash("hash of key_1") is None
    assert made.key_of_hash("unknown") is None


def test_the_highest_version_of_a_key_counts() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.take_key(key(version=3, revoked=True))
    made.take_key(key(version=2))
    assert code(made, "org_1", "key_1") == "invalid_api_key"


def test_a_key_whose_record_is_deleted_is_as_if_it_had_never_been_made() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.take_key(key(version=3, rpm_limit=1))
    made.take_key(key("key_2", version=1))
    assert [code(made, "org_1", "key_1") for _ in range(2)] == [None, "rate_limit_exceeded"]
    made.forget_key("key_1")
    made.forget_key("never there")
    assert made.key_of_hash("hash of key_1") is None
    assert made.key_of_hash("hash of key_2") is not None
    assert code(made, "org_1", "key_1") is None
    made.take_key(key(version=1))
    assert made.key_of_hash("hash of key_1") is not None


def test_an_org_whose_verdict_is_deleted_is_a_stranger_again_and_what_is_held_stays_held() -> None:
    made = admission()
    window = Refused("key_1", KeyRefusal.BUDGET_EXCEEDED, 0, NOW_MS * 2, 1, 1)
    made.take_verdict(Verdict("org_1", RUPEE, (window,)))
    assert code(made, "org_1", "key_1") == "budget_exceeded"
    assert code(made, "org_1", "key_2", max_cost_inr="0.4") is None
    made.forget_verdict("org_1")
    made.forget_verdict("never there")
    assert code(made, "org_1", "key_2") == "insufficient_credits"
    assert code(made, "org_1", "key_1", byok=True) is None
    assert made.spendable_nano("org_1") is None
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    assert made.spendable_nano("org_1") == RUPEE * 6 // 10


def test_a_key_that_nobody_registered_has_no_limits_of_its_own() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    assert all(code(made, "org_1", "stranger") is None for _ in range(1000))


@pytest.mark.parametrize("window_code", [KeyRefusal.BUDGET_EXCEEDED, KeyRefusal.DAILY_LIMIT_REACHED])
def test_a_refused_window_holds_from_its_start_to_its_end(window_code: KeyRefusal) -> None:
    clock = Clock()
    made = admission(clock)
    day = ist.day_of(NOW_MS)
    window = Refused("key_1", window_code, ist.day_start_ms(day), ist.day_end_ms(day), 5, 5)
    made.take_verdict(Verdict("org_1", RUPEE, (window,)))
    clock.now_ms = ist.day_end_ms(day) - 1
    refused = made.admit("org_1", "key_1")
    assert refused is not None
    assert (refused.code, refused.http_status, refused.retry_after) == (window_code.code, 429, 1)
    assert code(made, "org_1", "key_1", tier="trial") == window_code
    assert code(made, "org_1", "key_2") is None
    clock.now_ms += 1
    assert code(made, "org_1", "key_1") is None
    clock.now_ms = ist.day_start_ms(day) - 1
    assert code(made, "org_1", "key_1") is None
    clock.now_ms = NOW_MS
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    assert code(made, "org_1", "key_1") is None


def test_requests_a_minute_by_the_keys_own_limit() -> None:
    clock = Clock()
    made = admission(clock)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.take_key(key(rpm_limit=2))
    assert [code(made, "org_1", "key_1") for _ in range(3)] == [None, None, "rate_limit_exceeded"]
    refused = made.admit("org_1", "key_1")
    assert refused is not None and refused.http_status == 429 and refused.retry_after == 61
    clock.now_ms += 61_000
    assert code(made, "org_1", "key_1") is None
    made.take_key(key(version=2))
    assert all(code(made, "org_1", "key_1") is None for _ in range(10))


def test_a_request_refused_for_another_reason_does_not_count_in_the_minute() -> None:
    made = admission()
    made.take_key(key(rpm_limit=1))
    assert code(made, "org_1", "key_1") == "insufficient_credits"
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    assert [code(made, "org_1", "key_1") for _ in range(2)] == [None, "rate_limit_exceeded"]


@pytest.mark.parametrize("registered", [True, False])
def test_a_trial_key_makes_sixty_requests_a_minute_registered_or_not(registered: bool) -> None:
    clock = Clock()
    made = admission(clock)
    if registered:
        made.take_key(key(tier="trial", rpm_limit=1000))
    for _ in range(2):
        codes = [code(made, "org_1", "key_1", tier="trial") for _ in range(61)]
        assert codes == [None] * 60 + ["rate_limit_exceeded"]
        clock.now_ms += 61_000
        made.tick()


# --- reservations ---


def test_a_reservation_is_held_until_the_charge_shows() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 10 * RUPEE, ()))
    assert code(made, "org_1", "key_1", max_cost_inr="6") is None
    assert code(made, "org_1", "key_1", max_cost_inr="6") == "insufficient_credits"
    hold = made.publishing("org_1", "key_1", None)
    assert hold is not None and hold.amount_nano == 6 * RUPEE
    made.sent(0, 7, [hold])
    made.take_progress(VerdictProgress(0, 7))
    assert made.spendable_nano("org_1") == 4 * RUPEE
    made.take_verdict(Verdict("org_1", 5 * RUPEE, ()))
    made.take_progress(VerdictProgress(0, 8))
    assert made.spendable_nano("org_1") == 5 * RUPEE


def test_an_offset_learned_after_it_was_counted_holds_nothing() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 10 * RUPEE, ()))
    assert code(made, "org_1", "key_1", max_cost_inr="6") is None
    hold = made.publishing("org_1", "key_1", None)
    assert hold is not None
    made.take_progress(VerdictProgress(0, 8))
    made.sent(0, 7, [hold])
    assert made.spendable_nano("org_1") == 10 * RUPEE
    assert made.uncounted_ms() == 0


def test_release_and_the_time_limit_give_back() -> None:
    clock = Clock()
    made = admission(clock)
    made.take_verdict(Verdict("org_1", 10 * RUPEE, ()))
    assert not made.release("org_1", "key_1")
    assert not made.release("nobody", "key_1")
    for amount in ("6", "3"):
        assert code(made, "org_1", "key_1", max_cost_inr=amount) is None
    assert not made.release("org_1", "key_1", "5")
    assert made.release("org_1", "key_1", "6")
    assert made.spendable_nano("org_1") == 7 * RUPEE
    clock.now_ms += 60_000
    made.tick()
    assert made.spendable_nano("org_1") == 10 * RUPEE
    assert made.reservations_open == 0


def test_a_named_reservation_belongs_to_its_request_alone() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 10 * RUPEE, ()))
    assert code(made, "org_1", "key_1", max_cost_inr="6", request_id="a") is None
    assert code(made, "org_1", "key_1", max_cost_inr="1", request_id="b") is None
    assert made.publishing("org_1", "key_1", None) is None
    assert made.publishing("org_1", "key_1", "c") is None
    assert code(made, "org_1", "key_1", max_cost_inr="2", request_id="a") is None
    assert made.spendable_nano("org_1") == 7 * RUPEE
    hold = made.publishing("org_1", "key_1", "a")
    assert hold is not None and hold.amount_nano == 2 * RUPEE
    assert made.release("org_1", "key_1", request_id="b")
    assert made.spendable_nano("org_1") == 8 * RUPEE
    made.unpublished(hold)
    assert made.release("org_1", "key_1", request_id="a")
    assert made.spendable_nano("org_1") == 10 * RUPEE


def test_without_a_name_the_smallest_goes_first_so_never_too_little_is_held() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", 20 * RUPEE, ()))
    for amount in ("6", "1", "3"):
        assert code(made, "org_1", "key_1", max_cost_inr=amount) is None
    taken = [made.publishing("org_1", "key_1", None) for _ in range(4)]
    assert [hold.amount_nano // RUPEE if hold else None for hold in taken] == [1, 3, 6, None]


@pytest.mark.parametrize("amount", [0.5, "a lot", "-1", "1.0000000001", "Infinity"])
def test_an_amount_that_is_none_is_an_error_not_an_admission(amount: Any) -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    with pytest.raises(AmountError):
        made.admit("org_1", "key_1", max_cost_inr=amount)


def test_byok_and_trial_reserve_nothing() -> None:
    made = admission()
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    assert code(made, "org_1", "key_1", byok=True, max_cost_inr="900") is None
    assert code(made, "org_1", "key_1", tier="trial", max_cost_inr="900") is None
    assert made.reservations_open == 0


# --- staleness ---


def test_open_goes_on_with_the_last_known_verdicts() -> None:
    clock = Clock()
    made = admission(clock)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.take_verdict(Verdict("org_2", 0, ()))
    clock.now_ms += 10_001
    made.tick()
    assert made.is_stale()
    assert code(made, "org_1", "key_1") is None
    assert code(made, "org_2", "key_1") == "insufficient_credits"


@pytest.mark.parametrize("when_stale", ["open", "closed"])
def test_until_everything_is_read_everybody_is_refused_up_to_a_limit(
    when_stale: Literal["open", "closed"],
) -> None:
    clock = Clock()
    made = admission(clock, when_stale, heard=False, unread_limit_ms=60_000)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    clock.now_ms += 3_600_000
    assert code(made, "org_1", "key_1") == "unavailable"
    made.tick()
    clock.now_ms += 59_999
    made.tick()
    assert code(made, "org_1", "key_1", tier="trial") == code(made, "stranger", "key") == "unavailable"
    clock.now_ms += 1
    made.tick()
    expected = None if when_stale == "open" else "unavailable"
    assert code(made, "org_1", "key_1") == code(made, "stranger", "key") == expected
    made.caught_up(clock.now_ms)
    assert code(made, "org_1", "key_1") is None
    assert code(made, "stranger", "key") == "insufficient_credits"


def test_who_has_read_everything_before_the_limit_serves_at_once() -> None:
    clock = Clock()
    made = admission(clock, heard=False, unread_limit_ms=60_000)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.caught_up(clock.now_ms)
    assert code(made, "org_1", "key_1") is None
    clock.now_ms += 10_001
    made.tick()
    assert made.is_stale() and code(made, "org_1", "key_1") is None


def test_closed_refuses_everything_while_stale_and_before_the_first_word() -> None:
    clock = Clock()
    made = admission(clock, "closed", heard=False)
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    refused = made.admit("org_1", "key_1")
    assert refused is not None and (refused.http_status, refused.retry_after) == (503, 1)
    made.caught_up(clock.now_ms)
    assert code(made, "org_1", "key_1") is None
    clock.now_ms += 10_001
    made.tick()
    assert code(made, "org_1", "key_1", byok=True) == "unavailable"
    made.caught_up(clock.now_ms)
    assert code(made, "org_1", "key_1") is None


def test_a_worker_that_counts_nothing_makes_the_verdicts_stale() -> None:
    clock = Clock()
    made = admission(clock, "closed")
    made.take_verdict(Verdict("org_1", RUPEE, ()))
    made.sent(2, 100, [])
    clock.now_ms += 10_001
    made.caught_up(clock.now_ms)
    assert made.is_stale()
    assert code(made, "org_1", "key_1") == "unavailable"
    made.take_progress(VerdictProgress(2, 101))
    made.tick()
    assert not made.is_stale()
    assert code(made, "org_1", "key_1") is None
