"""An account that is passed over at the end of a unit needs neither a verdict nor an alert nor a notice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts.alerts import due_alert
from pipeline.accounts.ledger import LedgerEntry, apply, charge
from pipeline.accounts.model import (
    TRIAL_REQUESTS_PER_DAY,
    Account,
    Key,
    Profile,
    Spending,
    decode_spending,
    encode_profile,
    encode_spending,
)
from pipeline.accounts.notices import Told
from pipeline.accounts.review import needs_review
from pipeline.accounts.telling import not_told, reached_budgets
from pipeline.accounts.verdicts import EXACT_BELOW_NANO, due_verdict
from pipeline.outcomes import LedgerKind
from tests.support.builders import EXAMPLES, NOW_MS

LIMITED = Key("limited", "n", "p", "h", "standard", 0, daily_limit=3)
BUDGETED = Key("budgeted", "n", "p", "h", "standard", 0, budget_nano=EXACT_BELOW_NANO)
TRIAL = Key("trial", "n", "p", "h", "trial", 0, daily_limit=2)
KEYS = {key.key_id: key for key in (LIMITED, BUDGETED, TRIAL)}
CHARGES = st.lists(
    st.tuples(
        st.sampled_from([*KEYS, "stranger"]),
        st.booleans(),
        st.integers(-32, 1),
        st.sampled_from([0, 1, EXACT_BELOW_NANO // 3, 2 * EXACT_BELOW_NANO]),
        st.sampled_from([1, 2, 250]),
    ),
    max_size=3,
)
UNITS = st.lists(st.tuples(CHARGES, st.integers(0, 40)), max_size=12)


def closed(account: Account, at_ms: int) -> Account:
    """Return the account as the next unit finds it, with the verdict that was due noted as told."""
    due_alert(account, at_ms)
    verdict = due_verdict(account, at_ms)
    if verdict is not None:
        account.spending.verdict_nano = verdict.balance_nano
        account.spending.verdict_refused = verdict.refused
    profiles = {account.org: encode_profile(account.profile)}
    return Account(account.org, decode_spending(encode_spending(account)), None, profiles)


@EXAMPLES
@given(
    st.integers(-EXACT_BELOW_NANO, 100 * EXACT_BELOW_NANO),
    st.none() | st.integers(0, 5).map(lambda n: n * EXACT_BELOW_NANO),
    UNITS,
)
def test_what_is_passed_over_needs_nothing(
    credit_nano: int,
    threshold_nano: int | None,
    units: list[tuple[list[tuple[str, bool, int, int, int]], int]],
) -> None:
    """Whatever is charged, on whatever days, over hours and days."""
    profile = Profile("A", "a@example.in", keys=KEYS, threshold_nano=threshold_nano)
    account, at_ms, told = closed(Account("org", Spending(credit_nano), profile), NOW_MS), NOW_MS, Told()
    for charges, hours in units:
        at_ms += hours * 3_600_000
        for key_id, trial, days, cost_nano, requests in charges:
            day = ist.day_of(at_ms) + days
            charge(account, key_id, trial=trial, day=day, cost_nano=cost_nano, requests=requests)
        passed_over = not needs_review(account)
        stamps = account.spending.is_below, account.spending.alerted_ms
        alert, verdict = due_alert(account, at_ms), due_verdict(account, at_ms)
        due, told = not_told(reached_budgets(account, at_ms), told)
        if passed_over:
            assert (verdict, alert, due) == (None, None, [])
            assert (account.spending.is_below, account.spending.alerted_ms) == stamps
        account = closed(account, at_ms)


def test_an_account_far_from_every_limit_is_passed_over() -> None:
    """Otherwise the law above would hold for nothing."""
    account = closed(Account("org", Spending(10**15), Profile("A", "a@example.in", keys=KEYS)), NOW_MS)
    charge(account, "limited", trial=False, day=ist.day_of(NOW_MS), cost_nano=5, requests=2)
    charge(account, "stranger", trial=False, day=ist.day_of(NOW_MS), cost_nano=5)
    assert not needs_review(account)
    charge(account, "limited", trial=False, day=ist.day_of(NOW_MS), cost_nano=5)
    assert needs_review(account)


def test_a_credit_and_a_new_account_are_looked_at() -> None:
    assert needs_review(Account("org"))
    account = closed(Account("org", Spending(10**15)), NOW_MS)
    assert not needs_review(account)
    apply(account.spending, LedgerEntry(LedgerKind.TOPUP, 1))
    assert needs_review(account)


def test_a_fall_below_the_threshold_is_looked_at_once() -> None:
    profile = Profile("A", "a@example.in", threshold_nano=10**15 - 10)
    account = closed(Account("org", Spending(10**15), profile), NOW_MS)
    charge(account, "k", trial=False, day=ist.day_of(NOW_MS), cost_nano=10)
    assert not needs_review(account)
    charge(account, "k", trial=False, day=ist.day_of(NOW_MS), cost_nano=1)
    assert needs_review(account)
    account = closed(account, NOW_MS)
    charge(account, "k", trial=False, day=ist.day_of(NOW_MS), cost_nano=1)
    assert not needs_review(account)


def test_a_stranger_that_becomes_a_trial_key_is_looked_at() -> None:
    """The trial ceiling then holds for what it used of the next day too."""
    today = ist.day_of(NOW_MS)
    account = closed(Account("org", Spending(10**15)), NOW_MS)
    charge(account, "stranger", trial=False, day=today + 1, cost_nano=0, requests=TRIAL_REQUESTS_PER_DAY)
    assert not needs_review(account)
    charge(account, "stranger", trial=True, day=today, cost_nano=0)
    assert needs_review(account)
    assert due_verdict(account, NOW_MS) is not None
