"""The bytes of a spool segment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.gateway.sending.entry import SpoolEntry, encode, scan, size_of
from tests.support.builders import EXAMPLES

_TEXT = st.text(max_size=20).filter(lambda text: text.isprintable())
ENTRIES = st.lists(
    st.builds(
        SpoolEntry,
        number=st.integers(1, 1000),
        org=_TEXT,
        given_id=_TEXT,
        reserved_nano=st.integers(0, 10**18),
        event=st.binary(max_size=60),
    ),
    max_size=8,
).map(lambda entries: [entry._replace(number=at + 10) for at, entry in enumerate(entries)])


@EXAMPLES
@given(ENTRIES)
def test_what_was_encoded_is_scanned_again(entries: list[SpoolEntry]) -> None:
    data = b"".join(encode(entry) for entry in entries)
    assert scan(data) == (entries, len(data))
    assert sum(size_of(entry) for entry in entries) == len(data)


@EXAMPLES
@given(ENTRIES, st.data())
def test_a_cut_or_changed_byte_loses_that_entry_and_what_follows_never_one_before(
    entries: list[SpoolEntry], data: st.DataObject
) -> None:
    encoded = [encode(entry) for entry in entries]
    whole = b"".join(encoded)
    at = data.draw(st.integers(0, len(whole)))
    before = 0
    kept: list[SpoolEntry] = []
    for entry, part in zip(entries, encoded, strict=True):
        if before + len(part) > at:
            break
        kept.append(entry)
        before += len(part)
    assert scan(whole[:at]) == (kept, before)
    if at < len(whole):
        flipped = bytearray(whole)
        flipped[at] ^= data.draw(st.integers(1, 255))
        assert scan(bytes(flipped)) == (kept, before)


def test_numbers_must_rise_and_zeros_are_no_entries() -> None:
    first, second = (encode(SpoolEntry(number, "o", "", 0, b"{}")) for number in (5, 6))
    assert scan(second + first)[1] == len(second)
    assert scan(first, last_number=5) == ([], 0)
    assert scan(first + bytes(100)) == ([SpoolEntry(5, "o", "", 0, b"{}")], len(first))
