"""The journal's records: in both formats they are read, and a newer one is refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from msgspec import structs

from pipeline import journal
from pipeline.journal import (
    JSON_ARRAYS,
    JSON_COLUMNS,
    LEDGER,
    LEDGER_COLUMNS,
    NATIVE,
    REQUEST_COLUMNS,
    REQUESTS,
    JournalFormatError,
    JournalRecord,
    LedgerRow,
    RequestRow,
    Row,
    decode_payload,
    decode_rows,
    encode_rows,
    public_id,
    read_headers,
)
from pipeline.journal.native import decode_blocks, encode_block
from tests.support.journal_rows import ledger_row, request

OF_RELEASE_0_1_0 = {
    REQUESTS: (
        b'[2051,"org_1",1781288999123,1781289000000,"gateway/mum-1","e1","key_1","standard",false,"krutrim-2",'
        b'"krutrim",200,"",740,null,false,200,64,112,0,7500000,1767225600000]\n'
    ),
    LEDGER: b'[3075,"org_1",1781289000000,"topup",500000000000,499992500000,"pay_1","order_1","","\xc3\xa9"]\n',
}
"""Values of records as that release wrote them, without a header for their format."""


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


def test_long_rows_are_split_by_bytes_too() -> None:
    long = "\x00" * 30_000
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


def test_the_rows_of_release_0_1_0_are_still_read() -> None:
    assert decode_payload(REQUESTS, OF_RELEASE_0_1_0[REQUESTS] * 2, JSON_ARRAYS) == 2 * [
        RequestRow(
            id=2051,
            org="org_1",
            at_ms=1_781_288_999_123,
            posted_ms=1_781_289_000_000,
            source="gateway/mum-1",
            event_id="e1",
            key_id="key_1",
            tier="standard",
            byok=False,
            model="krutrim-2",
            provider="krutrim",
            status=200,
            error_code="",
            latency_ms=740,
            ttft_ms=None,
            stream=False,
            prompt_tokens=200,
            cached_tokens=64,
            completion_tokens=112,
            reasoning_tokens=0,
            cost_nano=7_500_000,
            rate_from_ms=1_767_225_600_000,
        )
    ]
    [entry] = decode_payload(LEDGER, OF_RELEASE_0_1_0[LEDGER], JSON_ARRAYS)
    assert structs.asdict(entry) == {
        "id": 3075,
        "org": "org_1",
        "posted_ms": 1_781_289_000_000,
        "kind": "topup",
        "amount_nano": 500_000_000_000,
        "balance_after_nano": 499_992_500_000,
        "payment_id": "pay_1",
        "order_id": "order_1",
        "promo_code": "",
        "note": "é",
    }


def test_the_columns_of_release_0_1_0_never_change() -> None:
    assert {kind: len(columns) for kind, columns in JSON_COLUMNS.items()} == {REQUESTS: 22, LEDGER: 10}
    assert REQUEST_COLUMNS[:22] == JSON_COLUMNS[REQUESTS]
    assert LEDGER_COLUMNS[:10] == JSON_COLUMNS[LEDGER]


def test_a_record_without_a_format_is_of_release_0_1_0() -> None:
    headers = [("kind", b"ledger"), ("first", b"3"), ("last", b"3")]
    record = read_headers(headers, OF_RELEASE_0_1_0[LEDGER])
    assert record.format == JSON_ARRAYS
    assert [row.id for row in decode_rows(record)] == [3075]


def test_what_is_written_now_says_its_format() -> None:
    [record] = encode_rows(LEDGER, [ledger_row(public_id(3, 3), "org_1", 5, 7)])
    assert ("format", b"2") in record.headers()
    assert record.format == NATIVE
    assert record.value.startswith(
        b"\x08\x01\x02id\x06UInt64\x03\x0c\x00\x00\x00\x00\x00\x00\x03org\x06String\x05org_1"
    )


def test_a_newer_format_is_refused_by_name() -> None:
    headers = [("kind", b"ledger"), ("first", b"3"), ("last", b"3"), ("format", b"3")]
    with pytest.raises(JournalFormatError, match="format 3, and this release knows 1 to 2"):
        read_headers(headers, b"")


def test_rows_that_could_only_be_read_in_part_are_refused() -> None:
    types = {"id": "UInt64", "org": "String", "mood": "String"}
    newer = encode_block(types, [[1], ["org_1"], ["good"]])
    with pytest.raises(JournalFormatError, match="'mood' of type String is not known"):
        decode_rows(JournalRecord(LEDGER, 1, 1, newer))
    with pytest.raises(JournalFormatError, match="'org' of type UInt64 is not known"):
        decode_rows(JournalRecord(LEDGER, 1, 1, encode_block({"org": "UInt64"}, [[1]])))
    with pytest.raises(JournalFormatError, match="'id' is missing"):
        decode_rows(JournalRecord(LEDGER, 1, 1, encode_block({"org": "String"}, [["o"]])))
    with pytest.raises(JournalFormatError, match="kind 'statements'"):
        decode_rows(JournalRecord("statements", 1, 1, newer))


@pytest.mark.parametrize("written_as", [JSON_ARRAYS, NATIVE])
def test_broken_bytes_are_refused(written_as: int) -> None:
    with pytest.raises(JournalFormatError, match="cannot be read"):
        decode_payload(LEDGER, b"[1,", written_as)


def test_a_column_of_which_no_row_has_anything_is_left_out() -> None:
    rows = [
        request(
            1024 * n, "org_1", n, error_code="", ttft_ms=None, byok=False, reasoning_tokens=0, rate_from_ms=0
        )
        for n in (1, 2)
    ]
    [record] = encode_rows(REQUESTS, rows)
    [block] = decode_blocks(record.value)
    absent = {"byok", "error_code", "ttft_ms", "reasoning_tokens", "rate_from_ms"} | set(REQUEST_COLUMNS[22:])
    assert list(block) == [name for name in REQUEST_COLUMNS if name not in absent]
    assert _values(decode_rows(record)) == _values(rows)
    [with_one] = encode_rows(REQUESTS, [rows[0], structs.replace(rows[1], ttft_ms=0, error_code="e")])
    assert _values(decode_rows(with_one)) == [
        structs.astuple(rows[0]),
        structs.astuple(structs.replace(rows[1], ttft_ms=0, error_code="e")),
    ]


def test_the_order_of_a_blocks_columns_does_not_matter() -> None:
    [record] = encode_rows(LEDGER, [ledger_row(1024, "org_1", 5, 7)])
    [row] = decode_rows(record)
    assert isinstance(row, LedgerRow)
    kinds = dict.fromkeys(LEDGER_COLUMNS, "String") | dict.fromkeys(
        ("amount_nano", "balance_after_nano"), "Int64"
    )
    kinds |= {"id": "UInt64", "posted_ms": "UInt64"}
    turned = dict(reversed(kinds.items()))
    value = encode_block(turned, [[getattr(row, name)] for name in turned])
    assert decode_rows(structs.replace(record, value=value)) == [row]
