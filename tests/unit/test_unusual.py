"""When an hour is unusual, and what stands out in it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.unusual import AT_LEAST_NANO, HOUR_MS, TIMES, WEEKS, HourCost, Outlier, last_hour_ms, outlier
from tests.support.builders import NOW_MS

RUPEE = 10**9


def _cost(rupees: int, before: int = 0, key: str = "k", model: str = "m") -> HourCost:
    return HourCost(key, model, rupees * RUPEE, before * RUPEE)


@pytest.mark.parametrize(
    ("costs", "is_unusual"),
    [
        ([], False),
        ([_cost(99)], False),
        ([_cost(100)], True),
        ([_cost(500, before=400)], True),
        ([_cost(499, before=400)], False),
        ([_cost(10_000, before=40_000)], False),
        ([_cost(60, key="a"), _cost(60, key="b")], True),
    ],
)
def test_five_times_the_average_of_four_weeks_and_a_hundred_rupees(
    costs: Sequence[HourCost], is_unusual: bool
) -> None:
    assert (outlier(costs) is not None) is is_unusual


def test_what_cost_most_beyond_its_usual_stands_out_and_not_what_costs_most() -> None:
    costs = [_cost(3_000, before=11_000, key="steady"), _cost(2_900, key="runaway"), _cost(5, key="small")]
    assert outlier([*costs, _cost(10_000, key="loop", model="big")]) == Outlier(
        15_905 * RUPEE, 2_750 * RUPEE, "loop", "big"
    )


COSTS = st.lists(
    st.builds(
        HourCost,
        st.sampled_from("ab"),
        st.sampled_from("xy"),
        st.integers(0, 10 * AT_LEAST_NANO),
        st.integers(0, 10 * AT_LEAST_NANO),
    ),
    max_size=6,
)


@given(COSTS)
def test_it_is_told_exactly_where_the_rule_in_words_holds(costs: list[HourCost]) -> None:
    cost, before = sum(c.cost_nano for c in costs), sum(c.before_nano for c in costs)
    found = outlier(costs)
    assert (found is not None) == (cost >= AT_LEAST_NANO and cost / TIMES >= before / WEEKS)
    if found is not None:
        assert (found.cost_nano, found.usual_nano) == (cost, before // WEEKS)
        excess = {(c.key_id, c.model): c.cost_nano - c.before_nano / WEEKS for c in costs}
        assert (found.key_id, found.model) in excess


@given(st.integers(NOW_MS, NOW_MS + ist.DAY_MS), st.integers(0, 600_000))
def test_the_last_hour_is_a_whole_ist_hour_that_has_settled(now_ms: int, settle_ms: int) -> None:
    hour_ms = last_hour_ms(now_ms, settle_ms)
    assert ist.datetime_of(hour_ms).minute == ist.datetime_of(hour_ms).second == 0
    assert hour_ms % 1000 == 0
    assert hour_ms + HOUR_MS + settle_ms <= now_ms < hour_ms + 2 * HOUR_MS + settle_ms
    assert ist.day_of(hour_ms) == ist.day_of(hour_ms + HOUR_MS - 1)
