"""Accounts come back from their records as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.ledger import charge
from pipeline.accounts.model import (
    Account,
    Key,
    KeyUsage,
    Profile,
    Refused,
    RememberedAnswer,
    Spending,
    Watched,
    daily_limit_of,
    decode_spending,
    encode_profile,
    encode_spending,
    watched_of,
)
from pipeline.outcomes import KeyRefusal
from tests.support.builders import EXAMPLES

NANO = st.integers(-(2**62), 2**62)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
USAGES = st.builds(
    KeyUsage,
    months=st.dictionaries(st.integers(197001, 209912), NANO, max_size=4),
    days=st.dictionaries(st.integers(-5, 50_000), st.integers(1, 10**9), max_size=3),
    trial=st.booleans(),
)
SPENDINGS = st.builds(
    Spending,
    credited_nano=NANO,
    debited_nano=NANO,
    decoded=st.dictionaries(TEXT, USAGES, max_size=3),
    verdict_nano=st.none() | NANO,
    verdict_refused=st.lists(
        st.builds(Refused, TEXT, st.sampled_from(KeyRefusal), NANO, NANO, NANO, NANO), max_size=2
    ).map(tuple),
    entry_id=st.integers(0, 2**53),
)
OPTIONAL = st.none() | NANO
HASHES = TEXT | st.binary(min_size=32, max_size=32).map(bytes.hex)
KEYS = st.builds(
    Key, TEXT, TEXT, TEXT, HASHES, TEXT, NANO, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, st.booleans()
)
PROFILES = st.builds(
    Profile,
    name=TEXT,
    email=TEXT,
    signed_up_ms=OPTIONAL,
    keys=st.lists(KEYS, max_size=3).map(lambda keys: {key.key_id: key for key in keys}),
    answers=st.lists(st.builds(RememberedAnswer, TEXT, TEXT, NANO, st.binary(max_size=30)), max_size=3),
)


def stored(account: Account) -> tuple[bytes, bytes]:
    """Return what is kept of an account: its spending and its profile."""
    return encode_spending(account), encode_profile(account.profile)


def restored(spending: bytes, profile: bytes) -> Account:
    """Return the account of what is kept."""
    return Account("org", decode_spending(spending), None, {"org": profile})


@EXAMPLES
@given(SPENDINGS, PROFILES, st.data())
def test_an_account_comes_back_as_it_was(spending: Spending, profile: Profile, data: st.DataObject) -> None:
    """Also when only some of its keys are decoded in between."""
    account = Account("org", spending, profile)
    once = restored(*stored(account))
    for key_id in data.draw(st.sets(st.sampled_from([*spending.decoded, "unknown"]))):
        assert once.spending.usage(key_id) == spending.decoded.get(key_id)
    again = restored(*stored(once))
    assert again == once == account
    assert again.spending.watched == watched_of(profile)


def test_a_key_that_was_not_asked_for_is_kept_as_it_came() -> None:
    """A charge of one key decodes that key alone, and not the profile."""
    account = restored(
        *stored(Account("org", Spending(decoded={"a": KeyUsage({1: 2}), "b": KeyUsage({3: 4})})))
    )
    charge(account, "a", trial=False, day=20_000, cost_nano=5)
    assert (set(account.spending.decoded), set(account.spending.encoded)) == ({"a"}, {"b"})
    assert account.decoded_profile is None
    assert account.spending.keys == {"a": KeyUsage({1: 2, 202410: 5}, {20_000: 1}), "b": KeyUsage({3: 4})}


def test_a_changed_profile_is_watched_anew() -> None:
    account = restored(*stored(Account("org")))
    assert account.spending.watched == Watched()
    account.profile = Profile(threshold_nano=7)
    assert account.spending.watched is None
    assert restored(*stored(account)).spending.watched == Watched(7)


@pytest.mark.parametrize(
    ("key", "limits"),
    [
        (Key("k", "n", "p", "h", "standard", 0), {}),
        (Key("k", "n", "p", "h", "standard", 0, budget_nano=0), {"k": (0, None)}),
        (Key("k", "n", "p", "h", "standard", 0, budget_nano=5, daily_limit=6), {"k": (5, 6)}),
        (Key("k", "n", "p", "h", "trial", 0), {"k": (None, 200)}),
        (Key("k", "n", "p", "h", "trial", 0, daily_limit=20), {"k": (None, 20)}),
    ],
)
def test_limits_are_watched(key: Key, limits: dict[str, tuple[int | None, int | None]]) -> None:
    assert watched_of(Profile(keys={"k": key})) == Watched(None, limits)


def test_two_new_accounts_share_nothing() -> None:
    one, other = Account("a"), Account("b")
    one.spending.keys["k"] = KeyUsage()
    one.profile.keys["k"] = Key("k", "n", "p", "h", "standard", 0)
    assert (other.spending, other.profile) == (Spending(), Profile())


def test_an_idle_account_is_small() -> None:
    usage = KeyUsage({202606: 10**12, 202605: 10**12}, {20_616: 100, 20_615: 100})
    key = Key("key_0123456789abcdef", "first", "br-01234567", "ab" * 32, "standard", 10**12, 10**13)
    spending = Spending(10**14, 10**13, {key.key_id: usage}, {}, 10**13, (), 2**40)
    spending_record, profile_record = stored(Account("org", spending, Profile("A", keys={key.key_id: key})))
    assert len(spending_record) < 160
    assert len(profile_record) < 120


@pytest.mark.parametrize(
    ("tier", "own_limit", "limit"),
    [
        ("standard", None, None),
        ("standard", 5000, 5000),
        ("trial", None, 200),
        ("trial", 20, 20),
        ("trial", 5000, 200),
    ],
)
def test_the_daily_limit_of_a_registered_key(tier: str, own_limit: int | None, limit: int | None) -> None:
    key = Key("k", "n", "p", "h", tier, 0, daily_limit=own_limit)
    assert daily_limit_of(key, KeyUsage()) == limit


@pytest.mark.parametrize(("trial", "limit"), [(True, 200), (False, None)])
def test_the_daily_limit_of_a_stranger(trial: bool, limit: int | None) -> None:
    assert daily_limit_of(None, KeyUsage(trial=trial)) == limit
