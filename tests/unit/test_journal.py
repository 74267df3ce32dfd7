"""The journal's ids, rows and records."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import journal
from pipeline.journal import LEDGER, REQUESTS, decode_rows, encode_rows, position_of, public_id, read_headers
from tests.support.builders import EXAMPLES


@EXAMPLES
@given(st.integers(0, journal.PARTITIONS_MAX - 1), st.integers(0, journal.POSITION_MAX))
def test_an_id_names_partition_and_position_in_53_bits(partition: int, position: int) -> None:
    row_id = public_id(partition, position)
    assert position_of(row_id) == (partition, position)
    assert 0 <= row_id < 2**53
    assert public_id(partition, position + 1) > row_id


def test_rows_become_records_with_the_positions_they_hold() -> None:
    rows = [(public_id(3, n), "org", None, True, "a\nb") for n in range(10, 10 + journal.ROWS_A_RECORD + 1)]
    records = encode_rows(REQUESTS, rows)
    assert [(r.kind, r.first, r.last) for r in records] == [
        (REQUESTS, 10, 9 + journal.ROWS_A_RECORD),
        (REQUESTS, 10 + journal.ROWS_A_RECORD, 10 + journal.ROWS_A_RECORD),
    ]
    assert [tuple(row) for record in records for row in decode_rows(record.value)] == rows


def test_each_line_is_one_json_array() -> None:
    [record] = encode_rows(LEDGER, [(public_id(0, 1), "a"), (public_id(0, 2), "b")])
    assert [json.loads(line) for line in record.value.decode().splitlines()] == [[1024, "a"], [2048, "b"]]


def test_long_rows_are_split_by_bytes_too() -> None:
    long = "\x00" * 9_000
    rows = [(public_id(0, n), long) for n in range(1, 401)]
    records = encode_rows(REQUESTS, rows)
    assert len(records) > 1
    assert all(len(record.value) <= journal.RECORD_BYTES_MAX for record in records)
    assert [row[0] for record in records for row in decode_rows(record.value)] == [row[0] for row in rows]
    for before, after in pairwise(records):
        assert after.first == before.last + 1


def test_no_rows_are_no_records() -> None:
    assert encode_rows(REQUESTS, []) == []


def test_headers_come_back() -> None:
    [record] = encode_rows(LEDGER, [(public_id(5, 7),)])
    assert read_headers(record.headers(), record.value) == record


@pytest.mark.parametrize("headers", [[], [("kind", b"requests"), ("first", b"x"), ("last", b"1")]])
def test_a_record_without_its_headers_is_refused(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises((KeyError, ValueError)):
        read_headers(headers, b"")


def test_columns_are_named_once() -> None:
    for columns in journal.COLUMNS.values():
        assert len(set(columns)) == len(columns)
