"""A day is closed once nothing can be posted in it any more, and what was folded of it is the same whoever folds it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.journal import LedgerRow, Row, encode_rows
from pipeline.notary.chain import UnknownRateError, hash_of_rates
from pipeline.notary.checkpoint import NotaryKeyError, NotaryKeys, is_handed_over, is_signed, line_hash
from pipeline.notary.day import NotaryError, OpenDay, PostedUpTo, ReadUpTo, first_day
from pipeline.notary.kept import closed_day
from tests.support.builders import EXAMPLES, NOTARY_KEY
from tests.support.journal_rows import request
from tests.support.notary import (
    DEPLOYMENT,
    KEYS,
    LINES,
    Books,
    books,
    both_keys,
    old_keys,
    records_of,
)

NO_RATES = hash_of_rates({})
RATES = hash_of_rates(LINES)
DAY = 20_000
END_MS = ist.day_end_ms(DAY)


def entry(row_id: int, posted_ms: int) -> LedgerRow:
    return LedgerRow(row_id, "org_a", posted_ms, "topup", 5, 5, "", "", "", "")


def folded(made: Books, cut: int, again: bool) -> OpenDay:
    """Return the first day, folded of records that were cut elsewhere, and some of them twice."""
    day = OpenDay(made.days[0], {0: ReadUpTo()})
    rows: Sequence[Row] = made.rows
    records = [*records_of(rows[:cut]), *records_of(rows[cut:])]
    for offset, record in enumerate(records):
        for _ in range(2 if again else 1):
            if not day.take(0, record, offset, RATES):
                return day
    return day


@EXAMPLES
@given(st.integers(0, 40), st.booleans())
def test_what_a_day_comes_to_does_not_depend_on_how_it_was_read(cut: int, again: bool) -> None:
    made = books("2026-10-05", 2, 20)
    day = folded(made, cut, again)
    assert day.states == folded(made, 0, again=False).states
    assert day.read[0].position == 21
    assert day.done == {0}
    assert sum(state.rows for state in day.states.values()) == 20


def test_a_day_goes_on_in_the_middle_of_a_record() -> None:
    record = encode_rows("ledger", [entry(1024, END_MS - 1), entry(2048, END_MS)])[0]
    day = OpenDay(DAY, {0: ReadUpTo()})
    assert not day.take(0, record, 7, NO_RATES)
    assert day.read[0] == ReadUpTo(2, 7)
    after = day.next()
    assert after.take(0, record, 7, NO_RATES)
    assert (after.day, after.read[0], after.states["org_a"].rows) == (DAY + 1, ReadUpTo(3, 8), 2)


def test_a_day_is_closed_when_every_partition_is_done_with_it() -> None:
    day = OpenDay(DAY, {0: ReadUpTo(), 1: ReadUpTo(5, 9)})
    day.take(0, encode_rows("ledger", [entry(1024, END_MS)])[0], 0, NO_RATES)
    assert not day.is_closed({})
    assert not day.is_closed({1: PostedUpTo(5, END_MS - 1)})
    assert not day.is_closed({1: PostedUpTo(6, END_MS)})
    assert day.is_closed({1: PostedUpTo(5, END_MS)})
    assert not day.next().is_closed({1: PostedUpTo(5, END_MS)})


def test_the_first_day_is_told_once_no_earlier_row_can_come() -> None:
    row = entry(1024, END_MS - 1)
    assert first_day({0: None, 1: None}, {}) is None
    assert first_day({0: row, 1: None}, {}) is None
    assert first_day({0: row, 1: None}, {1: PostedUpTo(1, END_MS - 1)}) is None
    assert first_day({0: row, 1: None}, {1: PostedUpTo(2, END_MS)}) is None
    assert first_day({0: row, 1: None}, {1: PostedUpTo(1, END_MS)}) == DAY
    assert first_day({0: row, 1: entry(1025, END_MS)}, {}) == DAY


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([entry(2048, END_MS - 1)], "has .0, 2. where 1 is due"),
        ([entry(1025, END_MS - 1)], "has .1, 1. where 1 is due"),
        ([entry(1024, END_MS - 1), entry(3072, END_MS - 1)], "has .0, 3. where 2 is due"),
        ([entry(1024, END_MS - ist.DAY_MS - 1)], "was posted on 2024-10-03, which was closed before"),
    ],
)
def test_a_journal_with_a_gap_or_a_time_that_falls_is_refused(rows: list[Row], why: str) -> None:
    day = OpenDay(DAY, {0: ReadUpTo()})
    with pytest.raises(NotaryError, match=why):
        day.take(0, encode_rows("ledger", rows)[0], 0, NO_RATES)
    assert (day.states, day.read) == ({}, {0: ReadUpTo()})


def test_a_record_of_which_a_rate_is_not_known_yet_is_taken_later_and_whole() -> None:
    paid = [request(1024 * n, "org_a", 1, posted_ms=END_MS - 1, rate_from_ms=10**12) for n in (1, 2)]
    record = encode_rows("requests", paid)[0]
    day = OpenDay(DAY, {0: ReadUpTo()})
    with pytest.raises(UnknownRateError):
        day.take(0, record, 0, NO_RATES)
    assert day.read == {0: ReadUpTo()}
    assert day.take(0, record, 0, RATES)
    assert day.states["org_a"].rows == 2


def test_the_same_journal_and_key_make_the_same_bytes() -> None:
    one, other = books("2026-10-05", 3, 9).sign(), books("2026-10-05", 3, 9).sign()
    assert one.kept == other.kept
    assert all(is_signed(kept.checkpoint) for kept in one.kept.values())
    first, second, _ = (kept.checkpoint for kept in one.kept.values())
    assert (first.previous, second.previous) == ("00" * 32, line_hash(first))


def test_a_new_key_is_handed_over_to_on_its_first_day_by_both() -> None:
    made = books("2026-10-05", 4, 5)
    made.sign(dict(zip(made.days, (old_keys(), old_keys(), both_keys(), KEYS), strict=True)))
    handovers = [kept.checkpoint.handover for kept in made.kept.values()]
    assert [each is None for each in handovers] == [True, True, False, True]
    handover = handovers[2]
    assert handover is not None
    assert (handover.day, handover.new_key) == ("2026-10-07", KEYS.newest.public)
    assert is_handed_over(handover)


def test_a_key_that_nobody_hands_over_to_signs_nothing() -> None:
    made = books("2026-10-05", 2, 5)
    with pytest.raises(NotaryKeyError, match="METERING_NOTARY_KEY does not have"):
        made.sign({made.days[0]: old_keys(), made.days[1]: KEYS})


@pytest.mark.parametrize("text", ["", "a,", "a,b,c", ","])
def test_keys_are_one_secret_or_two(text: str) -> None:
    with pytest.raises(ValueError, match="one secret, or two"):
        NotaryKeys.parse(text)


def test_what_was_signed_is_made_again_only_as_it_was() -> None:
    made = books("2026-10-05", 1, 9).sign()
    day = folded(books("2026-10-05", 1, 9), 0, again=False)
    kept = made.kept[made.days[0]]
    again, tree = closed_day(NotaryKeys.parse(f"{NOTARY_KEY}-another"), DEPLOYMENT, day, kept, None)
    assert (again, tree.root) == (kept, made.trees[made.days[0]].root)
    changed = folded(books("2026-10-05", 1, 9, seed=2), 0, again=False)
    with pytest.raises(NotaryError, match="the journal up to 2026-10-05 is not the one that was signed"):
        closed_day(KEYS, DEPLOYMENT, changed, kept, None)
