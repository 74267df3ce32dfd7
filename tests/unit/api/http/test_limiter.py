"""The limiter against a count of all attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.http.limiter import SWEEP_ABOVE, Attempts
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
