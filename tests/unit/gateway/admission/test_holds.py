"""Reservations that were sent: counted by offset, and kept small when the worker is long away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.admission import holds
from pipeline.gateway.admission.holds import Purse, SentHolds
from tests.support.builders import EXAMPLES


@EXAMPLES
@given(
    st.lists(st.tuples(st.sampled_from(["add", "count"]), st.integers(0, 3), st.integers(0, 9)), max_size=60)
)
def test_what_is_held_is_what_was_sent_and_not_counted(steps: list[tuple[str, int, int]]) -> None:
    sent, purses = SentHolds(), [Purse() for _ in range(4)]
    waiting: list[tuple[int, int, int]] = []
    offset = counted_to = 0
    for what, a, b in steps:
        if what == "add":
            purses[a].hold(b)
            sent.note(offset, 1)
            sent.add(offset, purses[a], b)
            waiting.append((offset, a, b))
            offset += 1
        else:
            counted_to = min(offset, counted_to + b)
            sent.count(counted_to)
        waiting = [each for each in waiting if each[0] >= counted_to]
        for number, purse in enumerate(purses):
            assert purse.held_nano == sum(amount for _, n, amount in waiting if n == number)
        assert (sent.waiting_ms(10) > 0) == bool(waiting)


def test_a_long_wait_is_kept_as_one_sum_an_org(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "SENT_KEPT", 10)
    sent, purse = SentHolds(), Purse()
    for offset in range(1000):
        purse.hold(1)
        sent.add(offset, purse, 1)
    assert len(sent._sent) <= 11
    sent.count(990)
    assert 10 <= purse.held_nano <= 1000
    sent.count(1000)
    assert purse.held_nano == 0


def test_a_log_that_began_anew_holds_nothing_of_the_old_one() -> None:
    sent, purse = SentHolds(), Purse()
    sent.count(100)
    purse.hold(5)
    sent.note(120, 1)
    sent.add(120, purse, 5)
    sent.count(3)
    assert purse.held_nano == 0
    assert sent.waiting_ms(100) == 0
