"""The journal's ids, rows and records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pipeline import journal
from pipeline.journal import (
    LEDGER,
    REQUEST_COLUMNS,
    REQUESTS,
    RequestRow,
    Row,
    decode_rows,
    encode_rows,
    position_of,
    public_id,
    read_headers,
)
from pipeline.usage import CACHE_BESIDE, NO_OTHERS, OTHER_CLASSES, REASONING_BESIDE
from tests.support.builders import EXAMPLES
from tests.support.journal_rows import ledger_row, request


@EXAMPLES
@given(st.integers(0, journal.PARTITIONS_MAX - 1), st.integers(0, journal.POSITION_MAX))
def test_an_id_names_partition_and_position_in_53_bits(partition: int, position: int) -> None:
    row_id = public_id(partition, position)
    assert position_of(row_id) == (partition, position)
    assert 0 <= row_id < 2**53
    assert public_id(partition, position + 1) > row_id


def _values(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    return [structs.astuple(row) for row in rows]


def test_rows_become_records_with_the_positions_they_hold() -> None:
    rows = [
        request(public_id(3, n), "org", n, event_id="a\nb", ttft_ms=None)
        for n in range(10, 10 + journal.ROWS_A_RECORD + 1)
    ]
    records = encode_rows(REQUESTS, rows)
    assert [(r.kind, r.first, r.last) for r in records] == [
        (REQUESTS, 10, 9 + journal.ROWS_A_RECORD),
        (REQUESTS, 10 + journal.ROWS_A_RECORD, 10 + journal.ROWS_A_RECORD),
    ]
    assert _values(row for record in records for row in decode_rows(record)) == _values(rows)


def test_each_line_is_one_json_array() -> None:
    rows = [ledger_row(public_id(0, n), "org", n, 2 * n) for n in (1, 2)]
    [record] = encode_rows(LEDGER, rows)
    lines = record.value.decode().splitlines()
    assert [tuple(json.loads(line)) for line in lines] == _values(rows)


def test_long_rows_are_split_by_bytes_too() -> None:
    long = "\x00" * 9_000
    rows = [request(public_id(0, n), long, n) for n in range(1, 401)]
    records = encode_rows(REQUESTS, rows)
    assert len(records) > 1
    assert all(len(record.value) <= journal.RECORD_BYTES_MAX for record in records)
    assert _values(row for record in records for row in decode_rows(record)) == _values(rows)
    for before, after in pairwise(records):
        assert after.first == before.last + 1


def test_no_rows_are_no_records() -> None:
    assert encode_rows(REQUESTS, []) == []


def test_headers_come_back() -> None:
    [record] = encode_rows(LEDGER, [ledger_row(public_id(5, 7), "org", 1, 1)])
    assert read_headers(record.headers(), record.value) == record


@pytest.mark.parametrize("headers", [[], [("kind", b"requests"), ("first", b"x"), ("last", b"1")]])
def test_a_record_without_its_headers_is_refused(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises((KeyError, ValueError)):
        read_headers(headers, b"")


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
    row = request(1, "org", 0, reasoning_tokens=5)
    row.note(others, CACHE_BESIDE)
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
    row.note(NO_OTHERS, REASONING_BESIDE)
    assert (row.beside_tokens, row.tokens) == (5, 317)
