"""The journal's rows and their public ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline import journal
from pipeline.journal import LEDGER, REQUESTS, position_of, public_id
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
    assert set(journal.TOKEN_COLUMNS) <= set(journal.REQUEST_COLUMNS)


def test_tokens_are_those_of_prompt_and_completion() -> None:
    row = request(1, "org", 1, prompt_tokens=200, cached_tokens=64, completion_tokens=112, reasoning_tokens=9)
    assert row.tokens == 312
