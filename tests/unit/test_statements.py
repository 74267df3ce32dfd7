"""Statements: months that follow each other, and sums that hold."""

from __future__ import annotations

import itertools
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.journal import LedgerRow
from pipeline.statements import (
    Debit,
    MonthSums,
    Statement,
    StatementError,
    added_up,
    checked,
    month_of,
    months,
    text_of,
)

AMOUNTS = st.integers(-(10**18), 10**18)
MONTHS = st.dates(date(2024, 1, 1), date(2026, 12, 1)).map(lambda day: day.year * 100 + day.month)


def entry(amount_nano: int) -> LedgerRow:
    return LedgerRow(1, "org", 0, "topup", amount_nano, 0, "", "", "", "")


def debit(cost_nano: int, day: str = "2026-06-01") -> Debit:
    return Debit(day, "m", "k", "p", 1, 2, cost_nano)


@given(st.dictionaries(MONTHS, st.tuples(AMOUNTS, st.integers(0, 10**18)), min_size=1))
def test_months_follow_each_other_and_add_up(found: dict[int, tuple[int, int]]) -> None:
    sums = [MonthSums(month, *found[month]) for month in sorted(found)]
    now_ms = ist.month_start_ms(202702)
    lines = months(sums, now_ms)[::-1]
    assert lines[0].opening_nano == 0
    for before, after in itertools.pairwise(lines):
        assert after.month == ist.next_month(before.month)
        assert after.opening_nano == before.closing_nano
    assert lines[-1].month == 202702
    assert lines[-1].closing_nano == sum(credited - debited for credited, debited in found.values())
    assert [line.closed for line in lines] == [True] * (len(lines) - 1) + [False]


def test_an_org_without_a_posting_has_no_month() -> None:
    assert months([], 10**12) == []


def test_a_month_is_open_until_its_last_instant_is_over() -> None:
    end_ms = ist.month_end_ms(202606)
    assert months([MonthSums(202606, 5, 2)], end_ms - 1)[0].closed is False
    assert [line.closed for line in months([MonthSums(202606, 5, 2)], end_ms)] == [False, True]


def test_a_statement_leads_to_the_balance_at_its_end_or_is_refused() -> None:
    statement = Statement("org", 202606, 10, True, 7, [entry(10), entry(-4)], [debit(3), debit(2)])
    assert statement.line.closing_nano == 8
    assert (statement.line.credits_nano, statement.line.debits_nano) == (6, 5)
    assert checked(statement, 8) is statement
    with pytest.raises(StatementError, match="2026-06"):
        checked(statement, 9)


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("2026-10", 202610),
        ("1970-01", 197001),
        ("1969-12", None),
        ("2026-13", None),
        ("2026-00", None),
        ("2026-1", None),
        ("2026-10-01", None),
        ("२०२६-१०", None),
        ("2026-10\n", None),
    ],
)
def test_a_month_is_four_digits_and_two(text: str, month: int | None) -> None:
    assert month_of(text) == month
    if month is not None:
        assert text_of(month) == text


def test_debits_are_added_up_and_what_comes_to_no_request_is_left_out() -> None:
    one, late = debit(5), debit(7, "2026-05-31")
    off = Debit("2026-06-01", "m", "k", "p", -1, -2, -5)
    assert added_up([one, late, one, off]) == [late, one]
    assert added_up([one, off]) == []
