"""The duplicate check's memory, and its way through the state topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.sending.spool import RESTART_STEP
from pipeline.ist import DAY_MS
from pipeline.journal import RequestRow, decode_rows
from pipeline.posting import duplicates
from pipeline.posting.duplicates import (
    CHUNK_MARKS,
    CHUNK_NUMBERS,
    LEAP_MAX,
    LOOKED_UP_SOURCES_MAX,
    MARK_BYTES,
    NS_A_MS,
    NUMBERS_KEPT,
    RING_MARKS,
    SLOTS,
    NumberedSources,
    RecentNumbers,
    Ring,
    mark_of,
)
from pipeline.posting.unit import UnitOutput
from pipeline.topics import MOVED
from tests.support.builders import COST_NANO, EXAMPLES, NOW_MS, Books, event, packed, reasons

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def mark(number: int) -> bytes:
    """Return a mark."""
    return number.to_bytes(MARK_BYTES)


@EXAMPLES
@given(TEXT, TEXT, TEXT, TEXT)
def test_two_events_share_a_mark_only_if_they_are_one(a: str, b: str, c: str, d: str) -> None:
    assert (mark_of(a, b) == mark_of(c, d)) is ((a, b) == (c, d))


@pytest.mark.parametrize(
    "pairs", [(("a", "bc"), ("ab", "c")), (("1:a", "b"), ("1", ":ab")), (("", "1:a"), ("a", ""))]
)
def test_marks_keep_source_and_id_apart(pairs: tuple[tuple[str, str], tuple[str, str]]) -> None:
    assert mark_of(*pairs[0]) != mark_of(*pairs[1])


def test_at_least_the_last_200_000_are_known_at_any_time() -> None:
    ring = Ring()
    assert RING_MARKS >= 200_000
    total = RING_MARKS + 3 * CHUNK_MARKS
    for number in range(total):
        ring.add(mark(number))
        if number >= RING_MARKS and number % 97 == 0:
            assert mark(number - RING_MARKS + 1) in ring.known
    assert len(ring.known) <= SLOTS * CHUNK_MARKS
    assert mark(0) not in ring.known


@EXAMPLES
@given(st.lists(st.integers(0, 2 * CHUNK_MARKS), max_size=8))
def test_a_ring_comes_back_from_its_slots(units: list[int]) -> None:
    ring, number = Ring(), 0
    slots: dict[int, bytes] = {}
    for size in units:
        for _ in range(size):
            ring.add(mark(number))
            number += 1
        slots.update(ring.take_changes())
        assert list(ring.take_changes()) == []
        restored = Ring.restored(list(slots.values()))
        assert restored.known == ring.known
        assert restored._chunks == ring._chunks


def test_a_restored_ring_goes_on_beyond_its_capacity() -> None:
    ring = Ring()
    slots: dict[int, bytes] = {}
    for number in range(SLOTS * CHUNK_MARKS + 5):
        ring.add(mark(number))
        if number % (10 * CHUNK_MARKS) == 0:
            slots.update(ring.take_changes())
            ring = Ring.restored(list(slots.values()))
    slots.update(ring.take_changes())
    assert len(slots) == SLOTS
    assert all(0 <= slot < SLOTS for slot in slots)
    restored = Ring.restored(list(slots.values()))
    assert restored.known == ring.known
    assert restored._chunks == ring._chunks
    assert max(map(len, slots.values())) < CHUNK_MARKS * MARK_BYTES + 32


def test_numbers_come_back_however_long() -> None:
    sources = NumberedSources()
    sources.last |= {"a": 7, "b": 10**20 - 1}
    saved = dict(sources.take_changes({"a": None, "b": None}, 1000))
    restored = NumberedSources()
    for source, value in saved.items():
        restored.restore(source, value)
    assert restored.last == sources.last
    assert restored.drop_idle(1000) == []


def test_a_source_is_dropped_once_it_has_been_silent_long_enough() -> None:
    sources = NumberedSources()
    for source, at_ms in [("old", 10), ("new", 20)]:
        sources.last[source] = 1
        list(sources.take_changes({source: None}, at_ms))
    assert sources.drop_idle(10) == []
    assert sources.drop_idle(11) == ["old"]
    assert sources.last == {"new": 1}
    assert sources.drop_idle(11) == []


RUNS = st.lists(
    st.tuples(st.sampled_from(["a", "b", ""]), st.integers(0, 700), st.sampled_from([1, 3, 10**17])),
    max_size=8,
)


def added(recent: RecentNumbers, runs: list[tuple[str, int, int]]) -> dict[str, list[int]]:
    """Add numbers that rise, some beyond 64 bits, and return them by source."""
    numbers: dict[str, list[int]] = {"a": [], "b": [], "": []}
    newest = 10**19 - 5
    for source, size, step in runs:
        run = [newest + step * (n + 1) for n in range(size)]
        newest = run[-1] if run else newest
        recent.add(source, run)
        numbers[source] += run
    return numbers


@EXAMPLES
@given(RUNS, RUNS)
def test_recent_numbers_are_those_of_their_source_alone(
    early: list[tuple[str, int, int]], late: list[tuple[str, int, int]]
) -> None:
    """Asked before and after more are added, and after the way through the slots of the state topic."""
    recent = RecentNumbers()
    slots: dict[int, bytes] = {}
    first = added(recent, early)
    assert all(recent.has(source, n) for source, numbers in first.items() for n in numbers)
    slots.update(recent.take_changes())
    later = RecentNumbers.restored(list(slots.values()))
    for books in (recent, later):
        second = added(books, late)
        for source, others in (("a", "b"), ("b", "a")):
            assert all(books.has(source, n) for n in first[source] + second[source])
            foreign = set(first[others] + second[others]) - set(first[source] + second[source])
            assert not any(books.has(source, n) for n in foreign)
        slots.update(books.take_changes())
        again = RecentNumbers.restored(list(slots.values()))
        assert again._chunks == books._chunks
        assert again._room == books._room


def test_at_least_the_last_200_000_numbers_are_known_at_any_time() -> None:
    recent = RecentNumbers()
    slots: dict[int, bytes] = {}
    assert NUMBERS_KEPT >= 200_000
    total = NUMBERS_KEPT + 5 * CHUNK_NUMBERS
    for start in range(0, total, 1_000):
        recent.add("a", list(range(start, start + 1_000)))
        assert recent.has("a", max(0, start + 1_000 - NUMBERS_KEPT))
        slots.update(recent.take_changes())
    assert not recent.has("a", 0)
    restored = RecentNumbers.restored(list(slots.values()))
    kept = {n for n in range(total) if recent.has("a", n)}
    assert kept == {n for n in range(total) if restored.has("a", n)}
    assert len(kept) < NUMBERS_KEPT + 3 * CHUNK_NUMBERS


def test_asking_about_ever_new_sources_does_not_fill_the_memory() -> None:
    recent = RecentNumbers()
    recent.add("a", [7])
    for n in range(LOOKED_UP_SOURCES_MAX * 2 + 1):
        assert not recent.has(f"stranger-{n}", 7)
    assert len(recent._looked_up) <= LOOKED_UP_SOURCES_MAX
    assert recent.has("a", 7)


def _charged(outcome: UnitOutput) -> list[str]:
    found = (row for record in outcome.journal for row in decode_rows(record))
    return [row.event_id for row in found if isinstance(row, RequestRow)]


@pytest.mark.parametrize(
    ("last", "leap"),
    [
        (5, 5 + LEAP_MAX + 1),
        (5, 10**20 - 1),
        (5, NOW_MS * NS_A_MS),
        (NOW_MS * NS_A_MS, (NOW_MS + DAY_MS) * NS_A_MS + 1),
        (2**63, 2**64),
    ],
)
def test_a_number_far_ahead_silences_nobody(last: int, leap: int) -> None:
    """The event that leapt is set aside, the source's own next one is charged, and so is the other when redriven."""
    books = Books()
    ahead = packed(event("far", sequence=str(leap)))
    books.publish(packed(event("e1", sequence=str(last))))
    outcome = books.publish(ahead, packed(event("e2", sequence=str(last + 1))))
    assert reasons(outcome) == ["leap"]
    assert outcome.dead_letters[0].value == ahead
    assert _charged(outcome) == ["e2"]
    assert _charged(books.publish(ahead, ahead, topic=MOVED)) == ["far"]
    assert books.publish(packed(event("e1", sequence=str(last)))).counts["duplicates"] == 1


@pytest.mark.parametrize(
    ("last", "number"),
    [
        (0, LEAP_MAX),
        ((NOW_MS - 35 * DAY_MS) * NS_A_MS, NOW_MS * NS_A_MS),
        (NOW_MS * NS_A_MS, NOW_MS * NS_A_MS + 10 * RESTART_STEP),
        ((NOW_MS + 30 * DAY_MS) * NS_A_MS, (NOW_MS + 30 * DAY_MS) * NS_A_MS + RESTART_STEP),
    ],
)
def test_a_source_that_begins_anew_where_its_spool_does_goes_on(last: int, number: int) -> None:
    books = Books()
    books.publish(packed(event("e1", sequence=str(last))))
    outcome = books.publish(packed(event("e2", sequence=str(number))))
    assert _charged(outcome) == ["e2"]


def test_any_number_may_be_a_sources_first() -> None:
    assert _charged(Books().publish(packed(event(sequence="9" * 20)))) == ["e1"]


def test_numbers_of_more_sources_than_are_remembered_go_by_the_ring_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each event is charged once all the same, and known sources go on as before."""
    monkeypatch.setattr(duplicates, "SOURCES_MAX", 2)
    books = Books()
    for source in ("a", "b", "c"):
        books.publish(packed(event("e5", source=source, sequence="05")))
    assert books.state.sources.last.keys() == {"a", "b"}
    output = books.publish(
        packed(*(event(f"e{n}", source=source, sequence=f"0{n}") for source in "abc" for n in (5, 6)))
    )
    assert (output.counts["duplicates"], output.counts["unnumbered"]) == (3, 2)
    assert reasons(books.publish(packed(event("e7", source="c", sequence="7x")))) == ["invalid"]
    books.state = books.restore()
    del books.state.sources.last["a"]
    output = books.publish(packed(*(event(f"e{n}", source="c", sequence=f"0{n}") for n in (5, 6, 7))))
    assert (output.counts["duplicates"], books.state.sources.last["c"]) == (2, 7)
    assert books.balance_nano() == -7 * COST_NANO
