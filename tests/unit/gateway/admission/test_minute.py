"""The per-minute limit of a key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.admission.minute import Minute
from tests.support.builders import EXAMPLES


def test_the_request_beyond_the_limit_is_told_how_long_to_wait() -> None:
    minute = Minute()
    assert [minute.admit(1_000 * i, 3) for i in range(3)] == [0, 0, 0]
    assert minute.admit(3_000, 3) == 58
    assert minute.admit(60_999, 3) == 1
    assert minute.admit(61_000, 3) == 0


@EXAMPLES
@given(st.lists(st.integers(0, 20_000), max_size=200), st.integers(1, 20))
def test_no_sixty_seconds_hold_more_than_the_limit_and_waiting_as_told_suffices(
    gaps_ms: list[int], limit: int
) -> None:
    minute, now_ms = Minute(), 0
    admitted: list[int] = []
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        wait_s = minute.admit(now_ms, limit)
        if wait_s:
            assert 1 <= wait_s <= 61
            now_ms += wait_s * 1000
            assert minute.admit(now_ms, limit) == 0
        admitted.append(now_ms)
        assert sum(at_ms > now_ms - 60_000 for at_ms in admitted) <= limit


def test_a_clock_set_far_back_does_not_lock_a_key_out() -> None:
    minute = Minute()
    assert minute.admit(10_000_000, 1) == 0
    assert minute.admit(1_000_000, 1) == 0
    assert minute.admit(1_000_000, 1) > 0
