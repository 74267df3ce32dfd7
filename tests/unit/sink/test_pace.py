"""The sink's turns: bounded however many want them, at once where few do."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sink.pace import BURST_S, INSERTS_A_SECOND, Pace, turns_a_second


@given(st.lists(st.floats(0, 2), max_size=300), st.floats(1, 100))
def test_no_stretch_of_time_has_more_turns_than_the_rate_and_a_burst(
    pauses: list[float], rate: float
) -> None:
    pace = Pace()
    turns = [asked_s + pace.wait_s(asked_s, rate) for asked_s in accumulate(pauses)]
    for first, first_s in enumerate(turns):
        for last, last_s in enumerate(turns[first:], start=first):
            assert last - first + 1 <= (last_s - first_s + BURST_S) * rate + 1 + 1e-6


def test_few_partitions_never_wait_and_many_wait_for_each_other() -> None:
    def longest_wait_s(partitions: int, every_s: float) -> float:
        pace, rate = Pace(), turns_a_second(partitions, partitions)
        due = [every_s * number / partitions for number in range(partitions)]
        longest = 0.0
        for _ in range(40):
            for number, asked_s in enumerate(due):
                wait_s = pace.wait_s(asked_s, rate)
                longest = max(longest, wait_s)
                due[number] = asked_s + wait_s + every_s
        return longest

    assert longest_wait_s(8, 0.25) == 0
    assert 0 < longest_wait_s(24, 0.25) < 24 / INSERTS_A_SECOND
    assert 7 < longest_wait_s(256, 0.25) < 256 / INSERTS_A_SECOND


def test_the_sinks_of_a_deployment_share_the_rate() -> None:
    assert turns_a_second(24, 24) == INSERTS_A_SECOND
    assert sum(turns_a_second(owned, 24) for owned in (12, 8, 4)) == pytest.approx(INSERTS_A_SECOND)
