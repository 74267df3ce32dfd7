"""Which sessions are over: the same for everybody who took the same records, and only for as long as it matters."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.session_book import (
    SESSION_MAX_MS,
    SWEEP_FROM,
    SessionBook,
    SessionRecord,
    decode_session,
    encode_session,
    ended_org,
)

NOW_MS = 1_781_289_000_123
END_MS = NOW_MS + 60_000

session_ids = st.sampled_from(["s1", "s2", "s3"])
records = st.builds(
    SessionRecord,
    st.sampled_from(["exchanged", "ended"]),
    st.just(END_MS),
    session_ids,
    st.sampled_from(["n1", "n2", "n3"]),
)


def book_of(*taken: SessionRecord, now_ms: int = NOW_MS) -> SessionBook:
    book = SessionBook(lambda: now_ms)
    for record in taken:
        book.take(record)
    return book


@given(st.lists(records, max_size=12))
def test_of_many_records_of_a_session_the_first_counts_and_it_alone(taken: list[SessionRecord]) -> None:
    book = book_of(*(decode_session(encode_session(record)) for record in taken))
    first = {record.session_id: record for record in reversed(taken)}
    for session_id in ("s1", "s2", "s3"):
        assert book.is_over(session_id, "org_1", NOW_MS) is (session_id in first)
        winners = [n for n in ("n1", "n2", "n3") if book.was_exchanged_by(session_id, n)]
        assert winners == ([first[session_id].nonce] if session_id in first else [])


def test_a_session_that_was_ended_is_not_exchanged_afterwards() -> None:
    book = book_of(SessionRecord("ended", END_MS, "s1"), SessionRecord("exchanged", END_MS, "s1", "n1"))
    assert book.is_over("s1", "org_1", NOW_MS) and not book.was_exchanged_by("s1", "n1")


def test_all_sessions_of_an_org_issued_before_an_instant_are_over_and_no_others() -> None:
    # The later instant holds, whichever record comes first.
    for taken in ((5, 0), (0, 5)):
        book = book_of(*(ended_org("org_1", NOW_MS + after) for after in taken))
        assert book.is_over("any", "org_1", NOW_MS + 4)
        assert not book.is_over("any", "org_1", NOW_MS + 5)
        assert not book.is_over("any", "org_2", 0)


def test_what_is_over_by_itself_is_not_kept() -> None:
    clock = [NOW_MS]
    book = SessionBook(lambda: clock[0])
    book.take(SessionRecord("ended", NOW_MS, "past"))
    assert len(book) == 0
    for number in range(SWEEP_FROM - 1):
        book.take(SessionRecord("ended", END_MS, f"s{number}"))
    clock[0] = END_MS
    book.take(ended_org("org_1", END_MS))
    assert len(book) == 1 and book.is_over("new", "org_1", END_MS - 1)
    clock[0] += SESSION_MAX_MS
    for number in range(SWEEP_FROM):
        book.take(SessionRecord("ended", clock[0] + 1, f"s{number}"))
    assert len(book) == SWEEP_FROM and not book.is_over("new", "org_1", END_MS - 1)


def test_memory_is_bounded_by_the_sessions_that_could_still_be_used() -> None:
    clock = [NOW_MS]
    book, most = SessionBook(lambda: clock[0]), 0
    for number in range(50_000):
        clock[0] += 10
        book.take(SessionRecord("ended", clock[0] + 30_000, f"s{number}"))
        most = max(most, len(book))
    assert most <= 2 * 3_000 + SWEEP_FROM


@pytest.mark.parametrize("value", [b"{}", b'{"kind":"new","until_ms":1}', b'{"kind":"ended"}', b"\x00"])
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_session(value)
