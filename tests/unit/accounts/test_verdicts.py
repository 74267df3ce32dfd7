"""What gateways are told, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts import verdicts
from pipeline.accounts.ledger import charge
from pipeline.accounts.model import (
    Account,
    Key,
    KeyUsage,
    Profile,
    Refused,
    Spending,
    decode_spending,
    encode_spending,
)
from pipeline.accounts.review import needs_review
from pipeline.accounts.verdicts import (
    EXACT_BELOW_NANO,
    Verdict,
    VerdictProgress,
    due_verdict,
    floor_nano,
    refused_keys,
)
from pipeline.money import NANO_PER_RUPEE
from pipeline.outcomes import KeyRefusal
from tests.support.builders import EXAMPLES, NOW_MS

TODAY, MONTH = ist.day_of(NOW_MS), ist.month_of(NOW_MS)
LAST_OF_JUNE_MS = ist.month_end_ms(202606) - 1


def account_with(usage: KeyUsage | None = None, credited_nano: int = 0, **key: int | str | None) -> Account:
    """Return an account with one registered key."""
    fields = {"tier": "standard", **key}
    own = Key("k", "n", "p", "h", created_ms=0, **fields)  # type: ignore[arg-type]
    return Account(
        "org", Spending(credited_nano, decoded={"k": usage} if usage else {}), Profile(keys={"k": own})
    )


def told(account: Account, at_ms: int = NOW_MS) -> Verdict | None:
    """Return the due_verdict, and note it as told, as the end of a unit does."""
    verdict = due_verdict(account, at_ms)
    if verdict is not None:
        account.spending.verdict_nano, account.spending.verdict_refused = (
            verdict.balance_nano,
            verdict.refused,
        )
    return verdict


def test_a_changed_budget_is_told_although_the_key_stays_refused() -> None:
    account = account_with(KeyUsage({MONTH: 500}), credited_nano=10**15, budget_nano=300)
    first = told(account)
    assert first is not None and [w.limit for w in first.refused] == [300]
    assert told(account) is None
    account.profile.keys["k"].budget_nano = 500
    second = told(account)
    assert second is not None and [(w.limit, w.used) for w in second.refused] == [(500, 500)]
    account.profile.keys["k"].budget_nano = 0
    third = told(account)
    assert third is not None and [(w.limit, w.used) for w in third.refused] == [(0, 500), (0, 0)]


class TestRefusals:
    @pytest.mark.parametrize(("spent", "refused"), [(99, False), (100, True), (101, True)])
    def test_a_budget_is_spent_when_it_is_reached(self, spent: int, refused: bool) -> None:
        found = refused_keys(account_with(KeyUsage({MONTH: spent}), budget_nano=100), NOW_MS)
        window = ist.month_start_ms(MONTH), ist.month_end_ms(MONTH)
        assert found == ((Refused("k", KeyRefusal.BUDGET_EXCEEDED, *window, 100, spent),) if refused else ())

    def test_a_budget_follows_the_month_of_the_requests(self) -> None:
        usage = KeyUsage({202605: 500, 202606: 20, 202607: 100})
        before = refused_keys(account_with(usage, budget_nano=100), LAST_OF_JUNE_MS)
        assert [r.from_ms for r in before] == [ist.month_start_ms(202607)]
        after = refused_keys(account_with(usage, budget_nano=100), LAST_OF_JUNE_MS + 1)
        assert [(r.from_ms, r.until_ms) for r in after] == [
            (ist.month_start_ms(202607), ist.month_end_ms(202607))
        ]

    def test_a_budget_of_nothing_is_spent_before_the_first_request(self) -> None:
        now, later = refused_keys(account_with(KeyUsage({MONTH: 7}), budget_nano=0), NOW_MS)
        assert now.from_ms <= NOW_MS < now.until_ms == later.from_ms < later.until_ms
        assert [(w.code, w.limit, w.used) for w in (now, later)] == [
            (KeyRefusal.BUDGET_EXCEEDED, 0, 7),
            (KeyRefusal.BUDGET_EXCEEDED, 0, 0),
        ]

    def test_no_budget_is_never_spent(self) -> None:
        assert refused_keys(account_with(KeyUsage({MONTH: 10**18})), NOW_MS) == ()

    @pytest.mark.parametrize(("requests", "refused"), [(4, False), (5, True), (9, True)])
    def test_a_daily_limit_is_used_up_when_it_is_reached(self, requests: int, refused: bool) -> None:
        found = refused_keys(account_with(KeyUsage(days={TODAY: requests}), daily_limit=5), NOW_MS)
        window = ist.day_start_ms(TODAY), ist.day_end_ms(TODAY)
        assert found == (
            (Refused("k", KeyRefusal.DAILY_LIMIT_REACHED, *window, 5, requests),) if refused else ()
        )

    def test_yesterday_is_over_and_tomorrow_may_have_begun(self) -> None:
        usage = KeyUsage(days={TODAY - 1: 9, TODAY: 1, TODAY + 1: 9})
        found = refused_keys(account_with(usage, daily_limit=5), NOW_MS)
        assert [r.from_ms for r in found] == [ist.day_start_ms(TODAY + 1)]

    @pytest.mark.parametrize(("trial", "codes"), [(True, [KeyRefusal.DAILY_LIMIT_REACHED]), (False, [])])
    def test_a_trial_key_nobody_registered_has_the_ceiling(self, trial: bool, codes: list[str]) -> None:
        account = Account("org", Spending(decoded={"x": KeyUsage(days={TODAY: 200}, trial=trial)}))
        assert [r.code for r in refused_keys(account, NOW_MS)] == codes


class TestNews:
    def test_a_new_account_is_always_told(self) -> None:
        assert told(Account("org")) == Verdict("org", 0, ())
        assert told(Account("org", Spending(credited_nano=10**15))) is not None

    def test_nothing_new_is_not_told(self) -> None:
        account = Account("org", Spending(credited_nano=5))
        assert told(account) is not None
        assert told(account) is None

    @pytest.mark.parametrize("balance_nano", [-5, 0, 1, EXACT_BELOW_NANO])
    def test_every_change_of_a_small_balance_is_told(self, balance_nano: int) -> None:
        account = Account("org", Spending(credited_nano=balance_nano))
        told(account)
        charge(account, "k", trial=False, day=TODAY, cost_nano=1)
        assert told(account) == Verdict("org", balance_nano - 1, ())

    def test_a_large_balance_is_told_again_only_when_it_has_fallen_far(self) -> None:
        start = 16_000 * NANO_PER_RUPEE
        account = Account("org", Spending(credited_nano=start))
        told(account)
        charge(account, "k", trial=False, day=TODAY, cost_nano=start // 16 - 1)
        assert told(account) is None
        charge(account, "k", trial=False, day=TODAY, cost_nano=1)
        assert told(account) is not None

    def test_a_credit_is_told_at_once(self) -> None:
        account = Account("org", Spending(credited_nano=10**15))
        told(account)
        account.spending.credited_nano += 1
        assert told(account) is not None

    @EXAMPLES
    @given(st.integers(0, 10**15), st.lists(st.integers(-(10**14), 10**14), max_size=20))
    def test_a_gateway_never_believes_in_more_than_there_is(self, start: int, changes: list[int]) -> None:
        """What was told, less the slack, is never above the balance; and exact where it is small."""
        account = Account("org", Spending(credited_nano=start))
        for change in [0, *changes]:
            account.spending.credited_nano += change
            told(account)
            known = account.spending.verdict_nano
            assert known is not None
            assert floor_nano(known) <= account.spending.balance_nano <= known
            if account.spending.balance_nano < EXACT_BELOW_NANO:
                assert known == account.spending.balance_nano

    def test_a_refusal_and_its_end_are_told(self) -> None:
        account = account_with(KeyUsage({MONTH: 100}), credited_nano=10**15, budget_nano=100)
        first = told(account)
        assert first is not None
        assert [r.code for r in first.refused] == [KeyRefusal.BUDGET_EXCEEDED]
        assert told(account) is None
        account.profile.keys["k"].budget_nano = 200
        raised = told(account)
        assert raised is not None
        assert raised.refused == ()

    def test_the_turn_of_the_month_lifts_a_refusal_with_the_next_unit(self) -> None:
        account = account_with(KeyUsage({202606: 100}), credited_nano=10**15, budget_nano=100)
        assert told(account, LAST_OF_JUNE_MS) is not None
        lifted = told(account, LAST_OF_JUNE_MS + 1)
        assert lifted is not None
        assert lifted.refused == ()


def test_records_come_back() -> None:
    verdict = Verdict("org", -5, (Refused("k", KeyRefusal.BUDGET_EXCEEDED, 1, 2, 3, 4),))
    assert verdicts.decode_record(b"org", verdicts.encode(verdict)) == verdict
    progress = VerdictProgress(3, 77)
    assert verdicts.decode_record(verdicts.PROGRESS_KEY, verdicts.encode(progress)) == progress


def trial_key(key_id: str, *, revoked: bool = False) -> Key:
    return Key(key_id, f"name of {key_id}", "p", "h", "trial", 0, revoked=revoked)


def used(account: Account, key_id: str, requests: int, day: int = TODAY, *, trial: bool = True) -> None:
    charge(account, key_id, trial=trial, day=day, cost_nano=0, requests=requests)


def refused_today(account: Account) -> set[tuple[str, int]]:
    start_ms = ist.day_start_ms(TODAY)
    return {(r.key_id, r.limit) for r in refused_keys(account, NOW_MS) if r.from_ms == start_ms}


def test_what_is_free_a_day_is_the_orgs_whatever_keys_it_makes_and_revokes() -> None:
    account = Account("org", Spending(10**12), Profile(keys={"k1": trial_key("k1")}))
    account.profile.keys["standard"] = Key("standard", "s", "p", "h", "standard", 0)
    used(account, "k1", 150)
    used(account, "standard", 5_000, trial=False)
    assert told(account) is not None and refused_today(account) == set()
    # The first is revoked, another one made: it has what is left, and not 200 again.
    account.profile = Profile(
        keys={**account.profile.keys, "k1": trial_key("k1", revoked=True), "k2": trial_key("k2")}
    )
    used(account, "k2", 49)
    assert refused_today(account) == set()
    account.limit_reached = False
    used(account, "k2", 1)
    assert account.limit_reached and needs_review(account)
    assert told(account) is not None and refused_today(account) == {("k2", 200)}
    # One that is made now is refused from the beginning, and one that nobody registered as soon as it is used.
    account.profile = Profile(keys={**account.profile.keys, "k3": trial_key("k3")})
    used(account, "stranger", 1)
    account.spending = decode_spending(encode_spending(account))
    assert refused_today(account) == {("k2", 200), ("k3", 200), ("stranger", 200)}
    # The next day is a new one.
    assert refused_keys(account, ist.day_end_ms(TODAY)) == ()


def test_a_trial_key_at_a_limit_of_its_own_is_refused_by_that() -> None:
    own = Key("k1", "n", "p", "h", "trial", 0, daily_limit=10)
    account = Account("org", Spending(10**12), Profile(keys={"k1": own, "k2": trial_key("k2")}))
    used(account, "k1", 10)
    used(account, "k2", 195)
    assert refused_today(account) == {("k1", 10), ("k2", 200)}
