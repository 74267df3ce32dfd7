"""A key's gate: what it remembers is what it would say if it looked each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import ist
from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import Refused
from pipeline.gateway.admission import refusal
from pipeline.gateway.admission.gate import Gate
from pipeline.gateway.admission.refusal import Refusal
from pipeline.outcomes import KeyRefusal
from tests.support.builders import MANY_EXAMPLES, NOW_MS

MONTH = ist.month_of(NOW_MS)
TODAY = ist.day_of(NOW_MS)
FOR_EVER_MS = 253_402_300_800_000
WINDOWS = (
    Refused(
        "k", KeyRefusal.BUDGET_EXCEEDED, ist.month_start_ms(MONTH), ist.month_end_ms(MONTH), 10**9, 10**9 + 5
    ),
    Refused("k", KeyRefusal.DAILY_LIMIT_REACHED, ist.day_start_ms(TODAY), ist.day_end_ms(TODAY), 200, 200),
    Refused(
        "k", KeyRefusal.DAILY_LIMIT_REACHED, ist.day_start_ms(TODAY + 1), ist.day_end_ms(TODAY + 1), 3, 4
    ),
    Refused("k", KeyRefusal.BUDGET_EXCEEDED, 0, FOR_EVER_MS, 0, 0),
    Refused("k", KeyRefusal.DAILY_LIMIT_REACHED, NOW_MS + 700, NOW_MS + 1900, 7, 8),
)


def record(rpm_limit: int | None) -> KeyRecord:
    return KeyRecord(
        org="o", key_id="k", name="", prefix="", hash="", tier="standard", created_ms=0, rpm_limit=rpm_limit
    )


def anew(windows: tuple[Refused, ...], now_ms: int) -> Refusal | None:
    for window in windows:
        if window.from_ms <= now_ms < window.until_ms:
            return refusal.of_window(window, now_ms)
    return None


_MOMENTS = st.one_of(
    st.integers(NOW_MS - 3_000, NOW_MS + 3_000),
    st.sampled_from(
        [at for window in WINDOWS for at in (window.from_ms, window.until_ms) if 0 < at < FOR_EVER_MS]
    ).flatmap(lambda edge: st.integers(edge - 2_000, edge + 2_000)),
)


@MANY_EXAMPLES
@given(
    st.lists(st.lists(st.sampled_from(WINDOWS), max_size=3, unique=True), min_size=1, max_size=4),
    st.lists(_MOMENTS, min_size=1, max_size=30),
    st.booleans(),
)
def test_a_remembered_refusal_is_the_one_it_would_make_now(
    changes: list[list[Refused]], moments: list[int], rising: bool
) -> None:
    gate = Gate()
    for windows in changes:
        gate.set_windows(tuple(windows))
        for now_ms in sorted(moments) if rising else moments:
            assert gate.admit(now_ms) == anew(tuple(windows), now_ms)


@MANY_EXAMPLES
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60), st.integers(1, 5))
def test_a_remembered_minute_waits_no_longer_and_no_shorter(gaps_ms: list[int], limit: int) -> None:
    """A gate that is asked between beside one that is not: being refused changes nothing."""
    asked, rare = Gate(), Gate()
    for gate in (asked, rare):
        gate.set_record(record(limit))
    now_ms = NOW_MS
    for gap_ms in gaps_ms:
        for between_ms in range(now_ms, now_ms + gap_ms, 501):
            if asked.minute._total >= limit:
                no = asked.admit(between_ms)
                if no is None:
                    assert rare.admit(between_ms) is None
        now_ms += gap_ms
        assert asked.admit(now_ms) == rare.admit(now_ms)


def test_a_raised_limit_counts_at_once() -> None:
    gate = Gate()
    gate.set_record(record(1))
    assert gate.admit(NOW_MS) is None
    assert gate.admit(NOW_MS) is not None
    gate.set_record(record(2))
    assert gate.admit(NOW_MS) is None
    no = gate.admit(NOW_MS)
    assert no is not None and (no.code, no.retry_after) == ("rate_limit_exceeded", 61)
    gate.set_record(record(None))
    assert gate.admit(NOW_MS) is None


def test_asking_again_within_a_second_gives_the_very_same_refusal() -> None:
    gate = Gate()
    gate.set_windows(WINDOWS[:1])
    first = gate.admit(NOW_MS)
    assert first is not None
    assert NOW_MS % 1000 == 0
    assert all(gate.admit(NOW_MS + ms) is first for ms in range(1, 1000))
    later = gate.admit(NOW_MS + 1000)
    assert later is not None and first.retry_after is not None and later.retry_after == first.retry_after - 1
