"""Posting: money moves by entries and charges alone, and an account stays small."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts.ledger import LedgerEntry, apply, charge
from pipeline.accounts.model import (
    DAYS_KEPT,
    MONTHS_KEPT,
    UNREGISTERED_KEYS_KEPT,
    Account,
    Key,
    Profile,
    Spending,
)
from tests.support.builders import EXAMPLES, NOW_MS

TODAY = ist.day_of(NOW_MS)
ENTRIES = st.builds(
    LedgerEntry, st.sampled_from(["promo", "topup", "refund", "correction"]), st.integers(-(10**15), 10**15)
)
CHARGES = st.tuples(st.sampled_from(["k1", "k2"]), st.integers(TODAY - 35, TODAY + 1), st.integers(0, 10**12))


@EXAMPLES
@given(st.lists(ENTRIES | CHARGES))
def test_the_balance_is_credits_less_debits(postings: list[LedgerEntry | tuple[str, int, int]]) -> None:
    account = Account("org")
    expected = 0
    for posting in postings:
        if isinstance(posting, LedgerEntry):
            assert apply(account.spending, posting) is account.spending
            expected += posting.amount_nano
        else:
            key_id, day, cost_nano = posting
            assert charge(account, key_id, trial=False, day=day, cost_nano=cost_nano) is account
            expected -= cost_nano
    assert account.spending.balance_nano == expected


@EXAMPLES
@given(st.lists(CHARGES), st.randoms(use_true_random=False))
def test_what_counts_for_limits_is_exact_in_any_order(
    charges: list[tuple[str, int, int]], random: object
) -> None:
    """Budgets of all four months that 35 days can touch, and the days that a limit may still ask about."""
    random.shuffle(charges)  # type: ignore[attr-defined]
    account = Account("org")
    months: Counter[tuple[str, int]] = Counter()
    newest: dict[str, int] = {}
    days: Counter[tuple[str, int]] = Counter()
    for key_id, day, cost_nano in charges:
        charge(account, key_id, trial=False, day=day, cost_nano=cost_nano)
        months[key_id, ist.month_of_day(day)] += cost_nano
        days[key_id, day] += 1
        newest[key_id] = max(day, newest.get(key_id, day))
    for key_id, usage in account.spending.keys.items():
        for month in {ist.month_of_day(TODAY - 35), ist.month_of_day(TODAY), ist.month_of_day(TODAY + 1)}:
            assert usage.months.get(month, 0) == months[key_id, month]
        assert usage.days.get(newest[key_id]) == days[key_id, newest[key_id]]
        if days[key_id, TODAY]:
            assert usage.days[TODAY] == days[key_id, TODAY]
        assert len(usage.days) <= DAYS_KEPT
        assert len(usage.months) <= MONTHS_KEPT


def test_a_free_request_counts_but_opens_no_month() -> None:
    usage = charge(Account("org"), "k", trial=False, day=TODAY, cost_nano=0).spending.keys["k"]
    assert (usage.days, usage.months) == ({TODAY: 1}, {})


def test_a_balance_may_fall_below_zero() -> None:
    account = Account("org", Spending(credited_nano=5))
    assert charge(account, "k", trial=False, day=TODAY, cost_nano=7).spending.balance_nano == -2


def test_one_trial_request_makes_a_stranger_a_trial_key_for_the_day() -> None:
    account = Account("org")
    flags = []
    for day, trial in [(0, False), (0, True), (0, False), (-1, False), (1, False), (0, True)]:
        charge(account, "k", trial=trial, day=TODAY + day, cost_nano=0)
        flags.append(account.spending.keys["k"].trial)
    assert flags == [False, True, True, True, False, True]


def test_strangers_are_kept_up_to_a_number_and_registered_keys_always() -> None:
    own = Key("own", "own", "br-own", "00", "standard", 0, budget_nano=1)
    account = Account("org", decoded_profile=Profile(keys={"own": own}))
    charge(account, "own", trial=False, day=TODAY - 30, cost_nano=5)
    for n in range(UNREGISTERED_KEYS_KEPT + 10):
        charge(account, f"stranger-{n:04d}", trial=False, day=TODAY, cost_nano=1)
    keys = account.spending.keys
    assert keys["own"].months[ist.month_of_day(TODAY - 30)] == 5
    assert len(keys) <= UNREGISTERED_KEYS_KEPT + 1
    assert f"stranger-{UNREGISTERED_KEYS_KEPT + 9:04d}" in keys
    assert "stranger-0000" not in keys
    assert account.spending.debited_nano == 5 + UNREGISTERED_KEYS_KEPT + 10


def test_the_stranger_dropped_is_the_one_unused_longest() -> None:
    account = Account("org")
    charge(account, "old", trial=False, day=TODAY - 9, cost_nano=1)
    for n in range(UNREGISTERED_KEYS_KEPT):
        charge(account, f"a{n:03d}", trial=False, day=TODAY, cost_nano=1)
    assert "old" not in account.spending.keys
    assert "a000" in account.spending.keys
