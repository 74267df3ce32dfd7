"""The limiter against a count of all attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.http.limiter import SWEEP_ABOVE, Attempts, RequestRate
from tests.support.builders import EXAMPLES


@EXAMPLES
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=80))
def test_no_window_holds_more_than_the_most(tries: list[tuple[str, int]]) -> None:
    limiter, now_ms = Attempts(5, 100), 0
    let_through: list[tuple[str, int]] = []
    for name, later_ms in tries:
        now_ms += later_ms
        recent = [at_ms for other, at_ms in let_through if other == name and at_ms > now_ms - 100]
        wait_ms = limiter.wait_ms(name, now_ms)
        assert (wait_ms == 0) == (len(recent) < 5)
        if wait_ms:
            assert wait_ms == recent[0] + 100 - now_ms
        else:
            limiter.add(name, now_ms)
            let_through.append((name, now_ms))


def test_what_is_taken_back_does_not_count() -> None:
    limiter = Attempts(1, 100)
    limiter.add("a", 0)
    limiter.take_back("a")
    limiter.take_back("a")
    assert limiter.wait_ms("a", 0) == 0


def test_it_forgets_names_that_are_quiet() -> None:
    limiter = Attempts(1, 100)
    for n in range(SWEEP_ABOVE + 1):
        limiter.add(str(n), 0)
    limiter.add("late", 1000)
    assert len(limiter._times) == 1


@EXAMPLES
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 700)), max_size=80))
def test_no_stretch_of_time_holds_more_than_its_share_and_a_burst(tries: list[tuple[str, int]]) -> None:
    rate, now_ms = RequestRate(per_s=5, burst=3), 0
    let_through: list[tuple[str, int]] = []
    for name, later_ms in tries:
        now_ms += later_ms
        wait_ms = rate.take(name, now_ms)
        if not wait_ms:
            let_through.append((name, now_ms))
            own = [at_ms for other, at_ms in let_through if other == name]
            assert all(len(own) - n <= 3 + (now_ms - own[n]) * 5 / 1000 + 1e-6 for n in range(len(own)))
        else:
            assert 1 <= wait_ms <= 201


def test_who_waits_as_long_as_told_may_come() -> None:
    rate, now_ms = RequestRate(per_s=3, burst=2), 1_000
    assert [rate.take("a", now_ms) for _ in range(2)] == [0, 0]
    wait_ms = rate.take("a", now_ms)
    assert wait_ms == 334 and rate.take("b", now_ms) == 0
    assert rate.take("a", now_ms + wait_ms - 2) == 2 and rate.take("a", now_ms + wait_ms) == 0


def test_buckets_are_kept_of_so_many_names_and_no_more() -> None:
    rate = RequestRate(per_s=1, burst=1, names_max=10)
    for number in range(1_000):
        rate.take(str(number), 0)
    assert len(rate._left) == 10 and rate.take("999", 0) > 0
