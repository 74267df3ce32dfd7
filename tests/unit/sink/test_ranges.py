"""A range is cut once; an old one that is found again is finished without a row twice or missing."""

from __future__ import annotations

import pytest

from pipeline.journal import LEDGER, REQUESTS, JournalRecord
from pipeline.sink import ranges
from pipeline.sink.ranges import HalfThereError, Part, Verdict

RECORDS = [
    (7, JournalRecord(REQUESTS, 10, 12, b"a\n")),
    (9, JournalRecord(LEDGER, 13, 13, b"b\n")),
    (12, JournalRecord(REQUESTS, 14, 15, b"c\n")),
]
REQUESTS_PART, LEDGER_PART = Part(REQUESTS, 10, 15, 5), Part(LEDGER, 13, 13, 1)


def test_a_range_ends_after_its_last_record_and_counts_rows_by_kind() -> None:
    intent = ranges.cut(RECORDS, 99)
    assert (intent.first_offset, intent.next_offset, intent.at_ms) == (7, 13, 99)
    assert intent.parts == (REQUESTS_PART, LEDGER_PART)
    assert ranges.decode(ranges.encode(intent)) == intent
    assert ranges.payload(RECORDS, REQUESTS) == b"a\nc\n"


def test_a_token_names_a_part_and_nothing_else() -> None:
    other = Part(REQUESTS, 10, 16, 6)
    tokens = {ranges.token("d", p, part) for p in (0, 1) for part in (REQUESTS_PART, LEDGER_PART, other)}
    assert len(tokens) == 6
    assert ranges.token("d", 0, REQUESTS_PART) == "d:0:requests:10-15"


@pytest.mark.parametrize(("found", "verdict"), [(0, Verdict.SEND), (5, Verdict.GO_ON), (3, Verdict.STOP)])
def test_an_old_part_is_judged_by_its_rows(found: int, verdict: Verdict) -> None:
    assert ranges.judge(REQUESTS_PART, found) is verdict


def test_of_an_old_range_only_the_missing_parts_are_left() -> None:
    intent = ranges.cut(RECORDS, 99)
    left = ranges.left_of(intent, {REQUESTS: 5, LEDGER: 0}, 500)
    assert left is not None
    assert (left.parts, left.at_ms) == ((LEDGER_PART,), 500)
    assert (left.first_offset, left.next_offset) == (intent.first_offset, intent.next_offset)
    assert ranges.left_of(intent, {REQUESTS: 5, LEDGER: 1}, 500) is None


def test_a_part_that_is_half_there_is_nobodys_to_finish() -> None:
    with pytest.raises(HalfThereError, match="only partly there"):
        ranges.left_of(ranges.cut(RECORDS, 99), {REQUESTS: 2, LEDGER: 1}, 500)


def test_a_token_is_safe_for_no_longer_than_the_fastest_inserts_allow() -> None:
    assert ranges.safe_age_ms(1200, partitions=4, inserts_a_second=10) == 10_000
