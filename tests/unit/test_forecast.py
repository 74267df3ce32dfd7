"""The forecast: laws that hold for every history, and plain cases worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.forecast import HISTORY_DAYS, HORIZON_DAYS, Forecast, RunsOut, Spend, Usual, forecast
from tests.support.builders import EXAMPLES, NOW_MS

RUPEE = 10**9
TODAY = ist.day_of(NOW_MS)
"""A Saturday, and NOW_MS is its first instant."""

AMOUNTS = st.integers(0, 10**15)
HISTORIES = st.lists(AMOUNTS, min_size=3, max_size=40)
HOURS = st.integers(0, 23)


def made(days: Sequence[int], spent_today: int = 0, hour: int = 0) -> Forecast | None:
    """Forecast by what was spent on the days before today, the last is yesterday."""
    spent = dict(enumerate([*days, spent_today], TODAY - len(days)))
    return forecast(spent, NOW_MS + hour * 3_600_000)


def sure(days: Sequence[int], spent_today: int = 0, hour: int = 0) -> Forecast:
    told = made(days, spent_today, hour)
    assert told is not None
    return told


def weeks(weekday: int, weekend: int, count: int = 4) -> list[int]:
    """Return days up to Friday 12 June 2026: weeks from Saturday on."""
    return [weekend, weekend, *[weekday] * 5] * count


def after(days: int) -> int:
    return TODAY + days


@pytest.mark.parametrize("days", [3, 6, 7, 13, 14, 28, 40])
@given(amount=AMOUNTS)
@EXAMPLES
def test_days_that_are_all_alike_go_on_so(days: int, amount: int) -> None:
    told = sure([amount] * days)
    assert told.spend_per_day() == Spend(amount, amount, amount)
    # Ten days and a half; a day that costs nothing never ends.
    lasts = told.runs_out(amount * 10 + amount // 2 + 1)
    assert lasts == (RunsOut(after(10), after(10), after(10)) if amount else None)


@given(days=HISTORIES, spent_today=AMOUNTS, hour=HOURS, times=st.integers(2, 1_000))
@EXAMPLES
def test_what_costs_twice_as_much_lasts_half_as_long(
    days: list[int], spent_today: int, hour: int, times: int
) -> None:
    once = sure(days, spent_today, hour)
    more = sure([day * times for day in days], spent_today * times, hour)
    for name in ("low_nano", "likely_nano", "high_nano"):
        for few, many in zip(getattr(once, name), getattr(more, name), strict=True):
            # Division rounds down, a nano-rupee a step, and levels have nine digits.
            assert abs(few * times - many) <= HORIZON_DAYS * (times + 4) + many // 10**6


@given(days=HISTORIES, spent_today=AMOUNTS, hour=HOURS, balance=st.integers(-(10**15), 10**17))
@EXAMPLES
def test_the_three_are_in_order_and_none_is_before_today(
    days: list[int], spent_today: int, hour: int, balance: int
) -> None:
    told = sure(days, spent_today, hour)
    for totals in (told.low_nano, told.likely_nano, told.high_nano):
        assert len(totals) == HORIZON_DAYS
        assert totals[0] >= 0
        assert all(one <= other for one, other in pairwise(totals))
    for low, likely, high in zip(told.low_nano, told.likely_nano, told.high_nano, strict=True):
        assert low <= likely <= high
    ends = told.runs_out(balance)
    if balance <= 0:
        assert ends == RunsOut(TODAY, TODAY, TODAY)
    elif ends is not None:
        never = after(HORIZON_DAYS)
        assert TODAY <= ends.earliest <= (ends.likely or never) <= (ends.latest or never)


@given(days=HISTORIES, balance=st.integers(1, 10**16), more=st.integers(0, 10**16))
@EXAMPLES
def test_more_money_never_lasts_shorter(days: list[int], balance: int, more: int) -> None:
    told = sure(days)
    less, greater = told.runs_out(balance), told.runs_out(balance + more)
    assume(greater is not None)
    assert less is not None and greater is not None
    never = after(HORIZON_DAYS)
    for name in ("earliest", "likely", "latest"):
        assert (getattr(less, name) or never) <= (getattr(greater, name) or never)


@given(days=st.lists(AMOUNTS, min_size=29, max_size=60))
@EXAMPLES
def test_the_last_28_days_count_and_none_before(days: list[int]) -> None:
    recent = days[-HISTORY_DAYS:]
    assert sure(days) == sure([0, *recent]) == sure(recent)


@pytest.mark.parametrize("days", [[], [5], [5, 5]])
def test_less_than_three_days_of_history_give_none(days: list[int]) -> None:
    assert made(days, spent_today=5) is None
    assert made([*[0] * 3, *days]) is not None
    assert forecast({}, NOW_MS) is None


def test_weekdays_are_told_apart() -> None:
    told = sure(weeks(100 * RUPEE, 10 * RUPEE))
    daily = [other - one for one, other in pairwise(told.likely_nano)]
    # The four Saturdays count, and one more day of the mean: (4 * 10 + 74.2857) / 5.
    assert daily[:8] == pytest.approx(
        [22_857_142_857, *[94_857_142_857] * 5, 22_857_142_857, 22_857_142_857], abs=2
    )
    # Whatever was taken from weekdays was given to weekends: a week costs what it did.
    assert sum(daily[:7]) == pytest.approx(520 * RUPEE, abs=10)
    spend = told.spend_per_day()
    assert spend.low_nano == pytest.approx(spend.high_nano, abs=10)


def test_what_days_differ_by_makes_the_interval_wider() -> None:
    calm = sure([90 * RUPEE, 110 * RUPEE] * 14)
    wild = sure([10 * RUPEE, 190 * RUPEE] * 14)
    balance = 2_000 * RUPEE
    widths = []
    for told in (calm, wild):
        ends = told.runs_out(balance)
        assert ends is not None and ends.latest is not None
        assert ends.earliest < after(20) < ends.latest
        widths.append(ends.latest - ends.earliest)
    assert 0 < widths[0] * 3 < widths[1]


def test_few_days_say_less_than_many() -> None:
    days = [90 * RUPEE, 100 * RUPEE, 110 * RUPEE]
    few, many = sure(days).spend_per_day(), sure(days * 8).spend_per_day()
    assert many.high_nano - many.low_nano < few.high_nano - few.low_nano


def test_a_growth_goes_on_and_no_further_than_to_twice_the_level() -> None:
    growing = sure([(100 + day) * RUPEE for day in range(28)])
    spend = growing.spend_per_day()
    assert 135 * RUPEE < spend.likely_nano <= spend.high_nano
    assert spend.low_nano < 115 * RUPEE
    *_, before, last = growing.high_nano
    assert last - before < 2 * 130 * RUPEE


def test_an_org_that_stopped_may_never_run_out() -> None:
    stopped = sure([100 * RUPEE] * 21 + [0] * 7)
    ends = stopped.runs_out(1_000 * RUPEE)
    assert ends is not None and ends.latest is None
    assert stopped.low_nano[-1] == 0
    silent = sure([0] * 28)
    assert silent.runs_out(1) is None
    assert silent.spend_per_day() == Spend(0, 0, 0)


@pytest.mark.parametrize(("cheaper", "falls"), [(7, True), (6, True), (5, False)])
def test_a_week_with_six_cheaper_days_is_a_fall_however_much_weeks_differ(cheaper: int, falls: bool) -> None:
    days = [100] * 7 + [200] * 7 + [100] * 7 + [70] * cheaper + [100] * (7 - cheaper)
    path = Usual(days, TODAY - 28).stopping()
    assert (path is not None) is falls
    # A fall by 30 % goes on week by week.
    if path is not None and cheaper == 7:
        levels = [next(path) for _ in range(8)]
        assert levels[0] == levels[6] and levels[7] == levels[0] * 490 // 700


def test_what_is_left_of_today_goes_by_the_clock_and_by_the_weekday() -> None:
    days = [100 * RUPEE] * 28
    evening = sure(days, spent_today=40 * RUPEE, hour=18)
    first = (evening.low_nano[0], evening.likely_nano[0], evening.high_nano[0])
    assert first == (25 * RUPEE, 42_500_000_000, 60 * RUPEE)
    # More than a day's worth is gone: by the weekday nothing is left to come.
    busy = sure(days, spent_today=150 * RUPEE, hour=18)
    assert (busy.low_nano[0], busy.high_nano[0]) == (0, 25 * RUPEE)


def test_a_budget_is_reached_within_its_month_or_not_at_all() -> None:
    # The 13th of June: 18 days are left of the month, today included.
    told = sure([10 * RUPEE] * 28)
    assert told.reached_this_month(180 * RUPEE) == ist.day_of_date(ist.date_of(TODAY).replace(day=30))
    assert told.reached_this_month(180 * RUPEE + 1) is None
    assert told.reached_this_month(1) == TODAY
