"""Counting by key within a unit comes to what charging each request comes to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts.ledger import charge
from pipeline.accounts.model import Account, Key, Profile
from pipeline.posting.meters import DEBITED_MAX_NANO, LARGE_NANO, Meters, day_at
from tests.support.builders import EXAMPLES, NOW_MS

ORGS = ("org_a", "org_b")
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(ORGS),
        st.sampled_from(["key_1", "key_2"]),
        st.integers(-2, 2),
        st.booleans(),
        st.sampled_from([0, 1, 999, LARGE_NANO, 3 * LARGE_NANO]),
    ),
    max_size=30,
)


def accounts() -> dict[str, Account]:
    """Return two accounts, each with a key that is registered."""
    key = Key("key_1", "own", "br-own", "00", "standard", 0, budget_nano=1)
    return {org: Account(org, decoded_profile=Profile(keys={"key_1": key})) for org in ORGS}


@EXAMPLES
@given(REQUESTS, st.sets(st.integers(0, 29)))
def test_sums_reach_the_account_that_single_charges_reach(
    requests: list[tuple[str, str, int, bool, int]], unit_ends: set[int]
) -> None:
    """Whatever the order of orgs, keys, days and tiers, and wherever units end."""
    one_by_one, summed, meters = accounts(), accounts(), Meters()
    for n, (org, key_id, days, trial, cost_nano) in enumerate(requests):
        at_ms = NOW_MS + days * ist.DAY_MS
        charge(one_by_one[org], key_id, trial=trial, day=ist.day_of(at_ms), cost_nano=cost_nano)
        meter = meters.by_key.get(key_id)
        if (
            meter is None
            or meter.org != org
            or not meter.from_ms <= at_ms < meter.until_ms
            or meter.trial is not trial
        ):
            meter = meters.meter_for(summed[org], key_id, at_ms, trial=trial)
        if cost_nano >= meter.check_from_nano:
            assert meters.has_room(summed[org])
        meter.requests += 1
        meter.cost_nano += cost_nano
        if n in unit_ends:
            meters.post()
            meters = Meters()
    meters.post()
    assert summed == one_by_one


def test_what_was_posted_is_not_posted_again() -> None:
    account, meters = Account("org_a"), Meters()
    meter = meters.meter_for(account, "key_1", NOW_MS, trial=False)
    meter.requests, meter.cost_nano = 3, 12
    meters.post()
    meters.post()
    assert account.spending.debited_nano == 12
    assert account.spending.keys["key_1"].days == {ist.day_of(NOW_MS): 3}


def test_an_account_without_room_asks_for_every_cost() -> None:
    account, meters = Account("org_a"), Meters()
    account.spending.debited_nano = DEBITED_MAX_NANO
    meter = meters.meter_for(account, "key_1", NOW_MS, trial=False)
    assert meter.check_from_nano == LARGE_NANO
    meter.requests, meter.cost_nano = 1, LARGE_NANO
    assert not meters.has_room(account), "what was counted so far belongs to the account"
    again = meters.meter_for(account, "key_2", NOW_MS, trial=False)
    assert again.check_from_nano == 0


@EXAMPLES
@given(st.integers(0, 4_102_444_800_000))
def test_a_day_holds_its_instants(at_ms: int) -> None:
    day, from_ms, until_ms = day_at(at_ms)
    assert from_ms <= at_ms < until_ms
    assert (ist.day_of(from_ms), ist.day_of(until_ms - 1), ist.day_of(until_ms)) == (day, day, day + 1)
