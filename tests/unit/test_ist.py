"""Days and months in IST, against the tz database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from tests.support.builders import MANY_EXAMPLES

KOLKATA = ZoneInfo("Asia/Kolkata")
SINCE_1946 = st.integers(-757_382_400_000, 253_402_214_400_000)
MONTHS = [y * 100 + m for y in range(1970, 2101) for m in range(1, 13)]


@MANY_EXAMPLES
@given(SINCE_1946)
def test_day_and_month_are_those_of_the_tz_database(at_ms: int) -> None:
    there = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(KOLKATA)
    assert ist.date_of(ist.day_of(at_ms)) == there.date()
    assert ist.month_of(at_ms) == there.year * 100 + there.month
    assert ist.datetime_of(at_ms) == there
    assert ist.datetime_of(at_ms).utcoffset() == there.utcoffset()
    assert ist.ms_of(there) == at_ms


@MANY_EXAMPLES
@given(SINCE_1946)
def test_an_instant_lies_within_its_day(at_ms: int) -> None:
    day = ist.day_of(at_ms)
    assert ist.day_start_ms(day) <= at_ms < ist.day_end_ms(day)
    assert ist.day_of(ist.day_end_ms(day) - 1) == day
    assert ist.day_of(ist.day_end_ms(day)) == day + 1


@pytest.mark.parametrize("months", [MONTHS])
def test_months_follow_each_other_without_gap_or_overlap(months: list[int]) -> None:
    for month, following in pairwise(months):
        start, end = ist.month_start_ms(month), ist.month_end_ms(month)
        assert ist.next_month(month) == following
        assert end == ist.month_start_ms(following)
        assert [ist.month_of(ms) for ms in (start, end - 1, end)] == [month, month, following]


def test_a_day_starts_at_half_past_six_in_the_evening_utc() -> None:
    start = ist.day_start_ms(ist.day_of_date(date(2026, 6, 13)))
    assert datetime.fromtimestamp(start / 1000, UTC) == datetime(2026, 6, 12, 18, 30, tzinfo=UTC)
    assert ist.isoformat(start) == "2026-06-13T00:00:00.000+05:30"
    assert ist.isoformat(start - 1) == "2026-06-12T23:59:59.999+05:30"


def test_the_year_turns_at_the_same_hour() -> None:
    assert ist.month_of(ist.ms_of(datetime(2026, 12, 31, 18, 29, 59, 999_999, tzinfo=UTC))) == 202612
    assert ist.month_of(ist.ms_of(datetime(2026, 12, 31, 18, 30, tzinfo=UTC))) == 202701


def test_an_instant_is_cut_to_the_millisecond() -> None:
    at = datetime(2026, 6, 12, 18, 29, 59, 999_999, tzinfo=UTC)
    assert ist.isoformat(ist.ms_of(at)) == "2026-06-12T23:59:59.999+05:30"


def test_a_leap_day_is_a_day_of_february() -> None:
    assert ist.month_of_day(ist.day_of_date(date(2028, 2, 29))) == 202802
    assert ist.month_end_ms(202802) - ist.month_start_ms(202802) == 29 * ist.DAY_MS
