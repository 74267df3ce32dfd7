"""Where journal and database are not what was signed, it is told which of the two, of which org, and which row."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from pipeline.journal import LedgerRow, RequestRow, Row
from pipeline.notary.audit import DATABASE, JOURNAL, SignedDayAudit
from pipeline.notary.chain import NOTHING, hash_of_rates
from tests.support.notary import LINES, ORG, books

MADE = books("2026-10-05", 2, 20).sign()
FIRST, SECOND = MADE.days
ROWS = MADE.rows[20:]
STATES = {day: {org: MADE.state(org, day) for org in (ORG, "org_1", "org_2")} for day in MADE.days}


def found(journal: Sequence[Row], database: Sequence[Row]) -> list[tuple[str, str, list[int]]]:
    """Return what the second day's audit tells."""
    audit = SignedDayAudit(STATES[FIRST], hash_of_rates(LINES))
    audit.take(journal[:9], database[:9])
    audit.take(journal[9:], database[9:])
    return [(place, org, ids) for place, org, _, _, ids in audit.differences(STATES[SECOND])]


def changed(rows: Sequence[Row], at: int, **values: object) -> list[Row]:
    return [*rows[:at], msgspec.structs.replace(rows[at], **values), *rows[at + 1 :]]


def test_what_was_signed_is_there() -> None:
    assert found(ROWS, ROWS) == []


@pytest.mark.parametrize("at", [0, 8, 9, 19])
def test_a_changed_row_is_named_and_whose_it_is(at: int) -> None:
    """A ledger entry by its note and a request by its latency: neither changes a sum."""
    row = ROWS[at]
    change: dict[str, object] = {"note": "x"} if isinstance(row, LedgerRow) else {"latency_ms": 1}
    other = changed(ROWS, at, **change)
    assert found(ROWS, other) == [(DATABASE, row.org, [row.id])]
    assert found(other, ROWS) == [(JOURNAL, row.org, [row.id])]
    assert found(other, other) == [(JOURNAL, row.org, []), (DATABASE, row.org, [])]


def test_a_row_that_is_gone_or_another_orgs_shows_too() -> None:
    row = ROWS[12]
    assert found(ROWS, [*ROWS[:12], *ROWS[13:]]) == [(DATABASE, row.org, [row.id])]
    orgs = {ORG, "org_1", "org_2"} - {row.org}
    other = min(orgs)
    moved = found(ROWS, changed(ROWS, 12, org=other))
    assert [(place, org) for place, org, _ in moved] == [(DATABASE, org) for org in sorted((row.org, other))]


def test_a_row_by_a_rate_that_nobody_knows_is_not_what_was_signed() -> None:
    at = next(n for n, row in enumerate(ROWS) if isinstance(row, RequestRow) and row.rate_from_ms)
    assert found(ROWS, changed(ROWS, at, rate_from_ms=5)) == [(DATABASE, ROWS[at].org, [ROWS[at].id])]


def test_an_org_that_nobody_signed_shows() -> None:
    extra = msgspec.structs.replace(ROWS[-1], org="org_new", id=ROWS[-1].id + 1024)
    assert found(ROWS, [*ROWS, extra])[0][:2] == (DATABASE, "org_new")
    assert STATES[SECOND].get("org_new", NOTHING) == NOTHING
