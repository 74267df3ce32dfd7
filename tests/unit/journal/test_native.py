"""Blocks of the Native format: the bytes are ClickHouse's, what is written is read, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.journal import native
from pipeline.journal.native import BlockError, decode_blocks, encode_block, reads_as
from tests.support.builders import EXAMPLES

TYPES = {"text": "String", "flag": "Bool", "n": "UInt16", "big": "Int64", "maybe": "Nullable(UInt32)"}
ROW = st.tuples(
    st.text(max_size=20) | st.sampled_from(["", "a", "é", "\x00", "\x03abc", "x" * 200]),
    st.booleans(),
    st.integers(0, 2**16 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(0, 2**32 - 1),
)


def _rows(block: native.Block) -> list[tuple[Any, ...]]:
    return list(zip(*(values for _, values in block.values()), strict=True))


def test_the_bytes_are_as_the_format_has_them() -> None:
    columns = (("a", "éé"), (True, False), (1, 258), (-1, 2), (None, 7))
    assert encode_block(TYPES, columns) == (
        b"\x05\x02"
        b"\x04text\x06String\x01a\x04\xc3\xa9\xc3\xa9"
        b"\x04flag\x04Bool\x01\x00"
        b"\x01n\x06UInt16\x01\x00\x02\x01"
        b"\x03big\x05Int64\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x00\x00\x00"
        b"\x05maybe\x10Nullable(UInt32)\x01\x00\x00\x00\x00\x00\x07\x00\x00\x00"
    )


@EXAMPLES
@given(st.lists(st.lists(ROW, min_size=1, max_size=8), max_size=4))
def test_joined_blocks_come_back_as_they_were(blocks: list[list[tuple[Any, ...]]]) -> None:
    data = b"".join(encode_block(TYPES, list(zip(*rows, strict=True))) for rows in blocks)
    found = decode_blocks(data)
    assert [_rows(block) for block in found] == blocks
    assert all({name: kind for name, (kind, _) in block.items()} == TYPES for block in found)


@EXAMPLES
@given(
    st.sampled_from([0, 1, 150, 299, 300]),
    st.sampled_from(["", "é", "\x00", "ab", "x" * 35, "x" * 37, "x" * 200]),
    st.sampled_from([3, 36, 127, 128]),
    st.booleans(),
)
def test_many_texts_come_back_whatever_their_lengths(
    at: int, odd: str, length: int, like_a_length: bool
) -> None:
    """More different texts than are encoded one by one, nearly all of one length, and one of another somewhere."""
    filling = chr(length % 128) if like_a_length else "x"
    texts = [filling * (length - len(str(n))) + str(n) for n in range(300)]
    texts.insert(at, odd)
    [block] = decode_blocks(encode_block({"text": "String"}, [texts]))
    assert block["text"] == ("String", texts)


@pytest.mark.parametrize("length", [1, 127, 128, 16_383, 16_384])
def test_the_length_of_a_text_is_a_varint(length: int) -> None:
    text = "é" + "x" * (length - 1)
    [block] = decode_blocks(encode_block({"text": "String"}, [[text]]))
    assert block["text"][1] == [text]


def test_any_cut_is_refused() -> None:
    data = encode_block(TYPES, (("a", "b"), (True, False), (1, 2), (3, 4), (None, 5)))
    assert len(decode_blocks(data)) == 1
    for end in range(1, len(data)):
        with pytest.raises(BlockError):
            decode_blocks(data[:end])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x01\x01a\x04Date\x00\x00", "type Date"),
        (b"\x01\x01\x01a\x06String\x01\xff", "no UTF-8"),
        (b"\xff" * 20, "more bytes"),
    ],
)
def test_bytes_that_are_no_block_known_here_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        decode_blocks(data)


@pytest.mark.parametrize("values", [(2**63, 2**63), (0, 2**63), (-(2**63) - 1, 5), (-1, 2**64 - 1)])
def test_a_number_beyond_its_type_is_never_written_as_another(values: tuple[int, int]) -> None:
    with pytest.raises(OverflowError):
        encode_block({"big": "Int64"}, [values])


def test_what_does_not_fit_is_not_written() -> None:
    with pytest.raises(OverflowError):
        encode_block({"n": "UInt16"}, [[2**16]])
    with pytest.raises(BlockError, match="Float64"):
        encode_block({"n": "Float64"}, [[1]])


@pytest.mark.parametrize(
    ("written", "kept", "fits"),
    [
        ("UInt32", "UInt64", True),
        ("UInt64", "UInt32", True),
        ("UInt32", "Nullable(UInt32)", True),
        ("Nullable(UInt32)", "Nullable(UInt64)", True),
        ("Nullable(UInt32)", "UInt32", False),
        ("String", "String", True),
        ("Bool", "Bool", True),
        ("Bool", "UInt8", False),
        ("String", "UInt64", False),
        ("Nullable(String)", "String", False),
    ],
)
def test_a_column_may_become_wider_but_nothing_else(written: str, kept: str, *, fits: bool) -> None:
    assert reads_as(written, kept) is fits
