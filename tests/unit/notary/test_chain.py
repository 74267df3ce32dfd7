"""The bytes that rows and rates are hashed as never change: what was signed stays signed."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.rates import Tier
from pipeline.journal import LEDGER_COLUMNS, REQUEST_COLUMNS, LedgerRow
from pipeline.notary.chain import (
    NO_RATE,
    NOTHING,
    OrgState,
    UnknownRateError,
    after,
    hash_of_rates,
    rate_line,
    row_line,
)
from tests.support.builders import EXAMPLES, rate
from tests.support.journal_rows import request

ENTRY = LedgerRow(1025, "org_a", 1_790_000_000_000, "topup", 5_000, 6_000, "pay_1", "order_1", "", 'é "x"\n')
PAID = request(2049, "org_a", 1_790_000_000_000, posted_ms=1_790_000_000_001, rate_from_ms=7)


def test_a_row_is_hashed_as_these_bytes() -> None:
    assert (
        row_line(ENTRY)
        == (
            '["entry",1025,"org_a",1790000000000,"topup",5000,6000,"pay_1","order_1","","é \\"x\\"\\n"]'
        ).encode()
    )
    assert row_line(PAID) == (
        b'["request",2049,"org_a",1790000000000,1790000000001,"gateway/mum-1","e1","key_1","standard",false,"krutrim-2",'
        b'"krutrim",200,"",740,120,true,200,64,112,0,6100000,7,0,0,0,0]'
    )


def test_a_rate_is_hashed_as_these_bytes() -> None:
    tiers = (Tier(900, 9, 8, 7), Tier(500, 3, 5, 6, (1, 2, 3)))
    assert rate_line(rate(from_ms=7, request_nano=5, tiers=tiers)) == (
        b'["rate","krutrim-2","krutrim",7,12500,3125,50000,12500,12500,50000,5,[[900,9,8,7,9,9,7],[500,3,5,6,1,2,3]]]'
    )


def test_the_running_hash_is_these_bytes() -> None:
    """Computed here by hand as docs/statements.md says."""
    line = rate_line(rate(from_ms=7))
    of_rate = sha256(line).digest()
    one = after(NOTHING, ENTRY, hash_of_rates({}))
    two = after(one, PAID, hash_of_rates({("krutrim-2", "krutrim", 7): line}))
    assert one == OrgState(1, 5_000, sha256(b"\0" + bytes(32) + bytes(32) + row_line(ENTRY)).digest())
    assert two == OrgState(2, 5_000 - 6_100_000, sha256(b"\0" + one.hash + of_rate + row_line(PAID)).digest())
    assert two.hash.hex() == "aec4dbfbab37eee8ae00bf3cd7e74cbbee7d6557fbb058f6ca7f99ea7e03ab91"


def test_a_free_request_names_no_rate_and_another_needs_its_own() -> None:
    free = request(1, "org_a", 1, byok=True, cost_nano=0)
    assert (
        after(NOTHING, free, hash_of_rates({})).hash
        == sha256(b"\0" + bytes(32) + NO_RATE + row_line(free)).digest()
    )
    with pytest.raises(
        UnknownRateError, match="rate of krutrim-2 at krutrim from 7 ms is not in the catalog"
    ):
        after(NOTHING, PAID, hash_of_rates({}))


def test_the_columns_that_are_hashed_are_those_there_are() -> None:
    """Whoever adds one reads first what `notary/chain.py` says: old rows have to keep their bytes."""
    assert (len(REQUEST_COLUMNS), REQUEST_COLUMNS[-1]) == (26, "irregular")
    assert (len(LEDGER_COLUMNS), LEDGER_COLUMNS[-1]) == (10, "note")


@EXAMPLES
@given(st.text(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**53 - 1))
def test_a_line_is_what_any_writer_of_json_makes_of_its_values(text: str, amount: int, row_id: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    row = LedgerRow(row_id, text, amount, text, amount, amount, text, text, text, text)
    line = row_line(row)
    assert json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")).encode() == line
