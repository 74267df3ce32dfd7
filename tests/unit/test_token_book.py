"""Which access tokens there are: the same for who read every record and who read what compaction left."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pipeline.formats import NewerFormatError
from pipeline.ist import DAY_MS
from pipeline.token_book import (
    ENDED_KEPT_MS,
    EXPIRY_DAYS_MAX,
    SWEEP_FROM,
    TokenBook,
    TokenRecord,
    decode_token,
    encode_token,
    hash_token,
    signed,
    token_text,
)

SECRET = "a secret of the tests, long enough to sign with"
NOW_MS = 1_781_289_000_123
TEXTS = [token_text(bytes([n]) * 24) for n in range(8)]


def record(number: int = 0, *, revoked_ms: int = 0, secret: str = SECRET, **changes: Any) -> TokenRecord:
    made = TokenRecord(
        id=f"tok_{number}",
        org="org_1",
        name=f"token {number}",
        prefix=TEXTS[number % 8][:12],
        hash=hash_token(TEXTS[number % 8]),
        nonce="n",
        fingerprint="f",
        created_ms=NOW_MS,
        expires_ms=NOW_MS + DAY_MS,
        revoked_ms=revoked_ms,
    )
    return signed(structs.replace(made, **changes), secret)


def book_of(*taken: TokenRecord, now_ms: int = NOW_MS) -> TokenBook:
    book = TokenBook(SECRET, lambda: now_ms)
    for each in taken:
        book.take(each)
    return book


def test_a_token_is_in_force_from_its_record_until_it_expires_or_is_revoked() -> None:
    made = record()
    assert book_of(made).in_force(TEXTS[0]) == made
    assert book_of(made).in_force(TEXTS[1]) is None and book_of().in_force(TEXTS[0]) is None
    assert book_of(made, now_ms=made.expires_ms - 1).in_force(TEXTS[0]) == made
    assert book_of(made, now_ms=made.expires_ms).in_force(TEXTS[0]) is None
    # A server whose clock is behind that of who revoked it, too.
    for behind_ms in (0, 5):
        assert book_of(made, record(revoked_ms=NOW_MS + behind_ms)).in_force(TEXTS[0]) is None


def test_a_token_is_random_bits_behind_a_word_that_nothing_else_begins_with() -> None:
    assert all(text.startswith("brt-") and len(text) == 36 for text in TEXTS)
    # What begins so is no JWT, which begins with the base64 of `{"`, and no API key.
    assert not TEXTS[0].startswith(("ey", "br-"))


MAKINGS = [record(0, nonce=nonce, hash=hash_token(text)) for nonce, text in zip("abc", TEXTS, strict=False)]


@given(st.lists(st.sampled_from(MAKINGS), min_size=1, unique_by=lambda made: made.nonce), st.data())
def test_whoever_begins_later_knows_the_same(written: list[TokenRecord], data: st.DataObject) -> None:
    """Several servers may make the token of one request, and it is revoked: whatever compaction drops, all agree."""
    first = written[0]
    if is_revoked := data.draw(st.booleans()):
        ended = signed(structs.replace(first, revoked_ms=NOW_MS + 1), SECRET)
        written.insert(data.draw(st.integers(1, len(written))), ended)
    left = written[1:] if is_revoked else written
    for book in (book_of(*written), book_of(*left)):
        known = book.get("org_1", "tok_0")
        assert known is not None and (known.nonce, known.revoked_ms > 0) == (first.nonce, is_revoked)
        found = [text for text in TEXTS[:3] if book.in_force(text)]
        assert [hash_token(text) for text in found] == ([] if is_revoked else [first.hash])


@pytest.mark.parametrize(
    "forged",
    [
        structs.replace(record(), org="org_2"),
        structs.replace(record(), expires_ms=NOW_MS + 300 * DAY_MS),
        structs.replace(record(revoked_ms=NOW_MS), revoked_ms=0),
        structs.replace(record(), signature=""),
        record(secret="another secret, as long as the first one is"),
    ],
)
def test_a_record_that_the_secret_did_not_sign_opens_nothing(forged: TokenRecord) -> None:
    book = TokenBook(SECRET, lambda: NOW_MS)
    assert book.take(forged) is False
    assert book.in_force(TEXTS[0]) is None and len(book) == 0


def test_what_ended_is_known_for_a_month_and_then_forgotten() -> None:
    clock = [NOW_MS]
    book = TokenBook(SECRET, lambda: clock[0])
    book.take(record(0))
    book.take(record(1, revoked_ms=NOW_MS + 5))
    clock[0] = NOW_MS + 5 + ENDED_KEPT_MS - 1
    assert [each.id for each in book.of_org("org_1")] == ["tok_0", "tok_1"]
    clock[0] += 1
    assert [each.id for each in book.of_org("org_1")] == ["tok_0"] and book.get("org_1", "tok_1") is None
    clock[0] = NOW_MS + DAY_MS + ENDED_KEPT_MS
    assert book.of_org("org_1") == []
    # A server that was away learns of a revocation of which nothing is told any more.
    late = TokenBook(SECRET, lambda: clock[0])
    lasting: Any = {"expires_ms": clock[0] + DAY_MS}
    late.take(record(2, **lasting))
    late.take(record(2, revoked_ms=NOW_MS + 5, **lasting))
    assert late.in_force(TEXTS[2]) is None and len(late) == 0


def test_memory_is_let_go_of() -> None:
    clock = [NOW_MS]
    book, most = TokenBook(SECRET, lambda: clock[0]), 0
    for number in range(3 * SWEEP_FROM):
        clock[0] += ENDED_KEPT_MS // 100
        book.take(record(number, hash=str(number), expires_ms=clock[0] + 1))
        most = max(most, len(book))
    assert most <= SWEEP_FROM


def test_a_deleted_record_is_forgotten_and_others_are_not() -> None:
    book = book_of(record(0), record(1))
    book.forget(record(0).topic_key)
    book.forget(b"nonsense")
    assert [each.id for each in book.of_org("org_1")] == ["tok_1"] and book.in_force(TEXTS[0]) is None


def test_an_org_sees_its_own_tokens_alone() -> None:
    book = book_of(record(0), record(0, org="org_2", hash=hash_token(TEXTS[1]), name="theirs"))
    assert [each.name for each in book.of_org("org_1")] == ["token 0"]
    found = book.in_force(TEXTS[1])
    assert found is not None and found.org == "org_2"


def test_a_record_is_kept_for_as_long_as_a_token_may_last() -> None:
    lasting = record(expires_ms=NOW_MS + EXPIRY_DAYS_MAX * DAY_MS)
    assert decode_token(encode_token(lasting)) == lasting
    assert TEXTS[0].encode() not in encode_token(lasting)


@pytest.mark.parametrize("value", [b"{}", b"\x00", b'{"id":"tok_1","org":"org_1"}'])
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_token(value)
    with pytest.raises(NewerFormatError):
        decode_token(b'{"format":2}')
