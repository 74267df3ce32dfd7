"""How the sink cuts ranges, names them, and judges one it finds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec import structs

from pipeline.clickhouse.migrate import DEDUPLICATION_WINDOW
from pipeline.journal import (
    JSON_ARRAYS,
    JSON_COLUMNS,
    LEDGER,
    NATIVE,
    REQUESTS,
    JournalRecord,
    decode_payload,
    encode_rows,
    position_of,
    public_id,
)
from pipeline.journal.native import decode_blocks
from pipeline.sink import ranges
from pipeline.sink.pace import INSERTS_A_SECOND
from pipeline.sink.ranges import PartState, RangePart
from tests.support.journal_rows import in_format, ledger_row, request


def _requests(*positions: int) -> JournalRecord:
    rows = [request(public_id(2, position), "org_1", position) for position in positions]
    return encode_rows(REQUESTS, rows)[0]


RECORDS = [
    (10, _requests(1, 2, 3)),
    (12, encode_rows(LEDGER, [ledger_row(public_id(2, 4), "org_1", 5, 5)])[0]),
    (14, _requests(5, 6)),
]


def test_a_range_says_exactly_what_it_holds() -> None:
    intent = ranges.cut(RECORDS, at_ms=7)
    assert (intent.first_offset, intent.next_offset, intent.at_ms) == (10, 15, 7)
    # The part that ends the range is the last to be sent.
    assert intent.parts == (RangePart(LEDGER, 4, 4, 1), RangePart(REQUESTS, 1, 6, 5))
    assert [part.kind for part in ranges.cut(RECORDS[:2], 7).parts] == [REQUESTS, LEDGER]
    assert ranges.decode(ranges.encode(intent)) == intent


def test_a_range_ends_where_the_format_changes() -> None:
    old = [(offset, structs.replace(record, format=JSON_ARRAYS)) for offset, record in RECORDS[:2]]
    assert ranges.by_format([*old, *RECORDS[2:]]) == [old, RECORDS[2:]]
    assert ranges.by_format(RECORDS) == [RECORDS]
    assert ranges.by_format([]) == []
    part = ranges.cut(old, 0).parts[0]
    sent = ranges.insert_of("metering", 2, part, old)
    assert (sent.format, sent.columns, sent.rows) == (JSON_ARRAYS, JSON_COLUMNS[REQUESTS], 3)


def test_a_range_of_two_formats_that_an_older_release_recorded_is_sent_in_one() -> None:
    rows = [request(1024 * n + 2, "org_1", n) for n in (1, 2, 3)]
    old, new = (
        in_format(JSON_ARRAYS, encode_rows(REQUESTS, rows[:2])[0]),
        encode_rows(REQUESTS, rows[2:])[0],
    )
    records = [(10, old), (11, new)]
    [part] = ranges.cut(records, 0).parts
    sent = ranges.insert_of("metering", 2, part, records)
    assert (sent.format, sent.rows) == (NATIVE, 3)
    found = decode_payload(sent.kind, sent.payload, sent.format)
    assert list(map(structs.astuple, found)) == list(map(structs.astuple, rows))


def test_small_blocks_that_follow_each_other_are_sent_as_one_and_large_ones_as_they_are() -> None:
    rows = [request(1024 * n + 2, "org_1", n) for n in range(1, 3 + ranges.SMALL_ROWS + 4)]
    ends = [1, 2, 3, 3 + ranges.SMALL_ROWS, 5 + ranges.SMALL_ROWS, 6 + ranges.SMALL_ROWS]
    records = [
        (offset, record)
        for offset, (start, end) in enumerate(pairwise([0, *ends]))
        for record in encode_rows(REQUESTS, rows[start:end])
    ]
    [part] = ranges.cut(records, 0).parts
    sent = ranges.insert_of("metering", 2, part, records)
    large = records[3][1].value
    blocks = decode_blocks(sent.payload)
    assert [len(block["id"][1]) for block in blocks] == [3, ranges.SMALL_ROWS, 3]
    assert large in sent.payload
    found = decode_payload(sent.kind, sent.payload, sent.format)
    assert list(map(structs.astuple, found)) == list(map(structs.astuple, rows))
    alone = ranges.insert_of("metering", 2, ranges.cut(records[:1], 0).parts[0], records[:1])
    assert alone.payload == records[0][1].value


def test_the_same_range_has_the_same_token_and_no_other_has_it() -> None:
    part = ranges.cut(RECORDS, 0).parts[0]
    again = ranges.cut(RECORDS, 99).parts[0]
    assert ranges.token("metering", 2, part) == ranges.token("metering", 2, again)
    shorter = ranges.cut(RECORDS[:1], 0).parts[0]
    tokens = {
        ranges.token(deployment, partition, each)
        for deployment in ("metering", "other")
        for partition in (2, 3)
        for each in (part, shorter)
    }
    assert len(tokens) == 8


def test_an_insert_carries_one_kind_of_a_range_and_the_ids_of_its_rows() -> None:
    ledger, requests = (
        ranges.insert_of("metering", 2, part, RECORDS) for part in ranges.cut(RECORDS, 0).parts
    )
    assert (requests.table, requests.rows) == ("events", 5)
    found = decode_payload(requests.kind, requests.payload, requests.format)
    assert [position_of(row.id) for row in found] == [(2, 1), (2, 2), (2, 3), (2, 5), (2, 6)]
    assert requests.format == ledger.format == NATIVE
    assert (requests.low, requests.high) == (1 * 1024 + 2, 6 * 1024 + 2)
    assert (ledger.table, ledger.rows, ledger.payload) == ("ledger", 1, RECORDS[1][1].value)
    assert (requests.token, ledger.token) == ("metering:2:requests:1-6", "metering:2:ledger:4-4")


@pytest.mark.parametrize(
    ("found", "lack", "state"),
    [
        (5, False, PartState.COMPLETE),
        (5, True, PartState.INCOMPLETE),
        (3, False, PartState.INCOMPLETE),
        (0, False, PartState.ABSENT),
    ],
)
def test_an_old_part_is_complete_absent_or_incomplete_by_its_rows_and_roll_ups(
    found: int, lack: bool, state: PartState
) -> None:
    assert ranges.part_state(ranges.cut(RECORDS, 0).parts[1], found, roll_ups_lack=lack) is state


def test_a_range_is_old_when_half_of_the_time_its_tokens_are_remembered_is_over() -> None:
    intent = ranges.cut(RECORDS, at_ms=1_000)
    assert not ranges.is_old(intent, now_ms=6_000, safe_ms=10_000)
    assert ranges.is_old(intent, now_ms=6_001, safe_ms=10_000)


def test_a_token_is_trusted_only_while_the_window_surely_holds_it() -> None:
    assert ranges.safe_age_ms(window=100_000, inserts_a_second=16) == 2_083_333
    assert ranges.safe_age_ms(DEDUPLICATION_WINDOW, INSERTS_A_SECOND) > 15 * 60_000


def test_of_an_old_range_only_the_parts_that_are_not_there_are_left() -> None:
    intent = ranges.cut(RECORDS, at_ms=7)
    ledger, requests = intent.parts
    left = ranges.left_of(intent, {requests: PartState.INCOMPLETE, ledger: PartState.ABSENT}, 500)
    assert left is not None
    assert (left.parts, left.at_ms) == ((RangePart(LEDGER, 4, 4, 1),), 500)
    assert (left.first_offset, left.next_offset) == (intent.first_offset, intent.next_offset)
    assert ranges.left_of(intent, dict.fromkeys(intent.parts, PartState.COMPLETE), 500) is None


def test_parts_are_done_one_after_the_other() -> None:
    intent = ranges.cut(RECORDS, at_ms=7)
    second = ranges.without_first(intent)
    assert second is not None
    assert (second.parts, second.at_ms) == (intent.parts[1:], 7)
    assert ranges.without_first(second) is None
