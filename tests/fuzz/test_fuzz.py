"""Spoilt records in numbers that fit into a run of all tests; `make fuzz` posts more."""

from __future__ import annotations

import pytest

from tests.fuzz.records import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_records_end_nothing_and_the_books_add_up(seed: int) -> None:
    ledger, wrong = fuzz(10_000, seed)
    assert wrong is None
    counts = ledger.counts
    reasons = ("malformed", "invalid", "unpriced", "unauthenticated", "leap", "too_late")
    assert all(counts[f"dead letters: {reason}"] for reason in reasons), counts
    assert min(counts["requests posted"], counts["duplicates"], counts["moved"]) > 500
