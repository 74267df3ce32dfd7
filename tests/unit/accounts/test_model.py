"""Accounts come back from their records as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.model import (
    Account,
    Key,
    KeyUsage,
    Profile,
    Refused,
    RememberedAnswer,
    Spending,
    daily_limit_of,
    decode_account,
    encode_profile,
    encode_spending,
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
    keys=st.dictionaries(TEXT, USAGES, max_size=3),
    verdict_nano=st.none() | NANO,
    verdict_refused=st.lists(
        st.builds(Refused, TEXT, st.sampled_from(KeyRefusal), NANO, NANO, NANO, NANO), max_size=2
    ).map(tuple),
    entry_id=st.integers(0, 2**53),
)
OPTIONAL = st.none() | NANO
KEYS = st.builds(
    Key, TEXT, TEXT, TEXT, TEXT, TEXT, NANO, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, st.booleans()
)
PROFILES = st.builds(
    Profile,
    name=TEXT,
    email=TEXT,
    signed_up_ms=OPTIONAL,
    keys=st.dictionaries(TEXT, KEYS, max_size=3),
    answers=st.lists(st.builds(RememberedAnswer, TEXT, TEXT, NANO, st.binary(max_size=30)), max_size=3),
)


@EXAMPLES
@given(SPENDINGS, PROFILES)
def test_an_account_comes_back_as_it_was(spending: Spending, profile: Profile) -> None:
    restored = decode_account("org", encode_spending(spending), encode_profile(profile))
    assert restored == Account("org", spending, profile)


def test_a_missing_record_is_an_empty_part() -> None:
    assert decode_account("org", None, None) == Account("org")


def test_two_new_accounts_share_nothing() -> None:
    one, other = Account("a"), Account("b")
    one.spending.keys["k"] = KeyUsage()
    one.profile.keys["k"] = Key("k", "n", "p", "h", "standard", 0)
    assert (other.spending, other.profile) == (Spending(), Profile())


def test_an_idle_account_is_small() -> None:
    usage = KeyUsage({202606: 10**12, 202605: 10**12}, {20_616: 100, 20_615: 100})
    idle = Spending(10**14, 10**13, {"key_0123456789abcdef": usage}, 10**13, (), 2**40)
    assert len(encode_spending(idle)) < 120


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
