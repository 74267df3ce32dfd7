"""The journal's rows and their public ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import journal
from pipeline.journal import (
    LEDGER,
    REQUEST_COLUMNS,
    REQUESTS,
    RequestRow,
    decode_rows,
    encode_rows,
    position_of,
    public_id,
)
from pipeline.usage import CACHE_BESIDE, NO_OTHERS, OTHER_CLASSES, REASONING_BESIDE
from tests.support.builders import EXAMPLES
from tests.support.journal_rows import request


@EXAMPLES
@given(st.integers(0, journal.PARTITIONS_MAX - 1), st.integers(0, journal.POSITION_MAX))
def test_an_id_names_partition_and_position_in_53_bits(partition: int, position: int) -> None:
    row_id = public_id(partition, position)
    assert position_of(row_id) == (partition, position)
    assert 0 <= row_id < 2**53
    assert public_id(partition, position + 1) > row_id


def test_every_column_of_a_row_says_what_clickhouse_keeps_it_as() -> None:
    assert journal.COLUMNS[REQUESTS]["cost_nano"] == "Int64"
    assert journal.COLUMNS[REQUESTS]["ttft_ms"] == "Nullable(UInt32)"
    assert list(journal.COLUMNS[LEDGER].items())[:2] == [("id", "UInt64"), ("org", "String")]
    assert set(journal.TOKEN_COLUMNS) - {"beside_tokens"} <= set(journal.REQUEST_COLUMNS)


def test_tokens_are_those_of_prompt_and_completion() -> None:
    row = request(1, "org", 1, prompt_tokens=200, cached_tokens=64, completion_tokens=112, reasoning_tokens=9)
    assert row.tokens == 312


def test_a_row_has_a_column_for_each_class_of_tokens() -> None:
    """A class without one would be charged, and then no longer be found in the books."""
    others = tuple(range(7, 7 + len(OTHER_CLASSES)))
    columns = {each.column: count for each, count in zip(OTHER_CLASSES, others, strict=True)}
    row = request(1, "org", 0, reasoning_tokens=5, irregular=CACHE_BESIDE, **columns)
    assert row.counts == (200, 64, 112, 5, others, CACHE_BESIDE)
    assert {each.column for each in OTHER_CLASSES} <= set(REQUEST_COLUMNS)
    [back] = decode_rows(encode_rows(REQUESTS, [row])[0])
    assert isinstance(back, RequestRow)
    assert back.counts == row.counts


def test_a_row_without_other_classes_says_so_in_the_one_way_that_is_quick_to_see() -> None:
    assert request(1, "org", 0).counts[4] is NO_OTHERS


def test_reasoning_beside_the_completion_is_among_the_tokens() -> None:
    row = request(1, "org", 0, reasoning_tokens=5)
    assert (row.beside_tokens, row.tokens) == (0, 312)
    row.irregular = REASONING_BESIDE
    assert (row.beside_tokens, row.tokens) == (5, 317)
