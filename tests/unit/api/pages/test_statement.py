"""The page and the file of a statement."""

from __future__ import annotations

import csv
from decimal import Decimal

from pipeline import ist
from pipeline.api.pages.statement import COLUMNS, csv_of, render
from pipeline.journal import LedgerRow
from pipeline.statements import Debit, Statement

FORMULA = "=1+1"
STATEMENT = Statement(
    "org_7f3a",
    202606,
    ist.month_end_ms(202606) - 1,
    True,
    5_000_000_001,
    [
        LedgerRow(
            1, "org_7f3a", ist.month_start_ms(202606), "topup", 10**11, 105 * 10**9, "pay_1", "o", "", ""
        ),
        LedgerRow(2, "org_7f3a", ist.month_start_ms(202606), "correction", -7, 1, "", "", "", "<b>note</b>"),
    ],
    [
        Debit("2026-05-31", FORMULA, "key_1", "krutrim", 3, 900, 2_000_000_001),
        Debit("2026-06-01", "krutrim-2", "key_1", "", 1, 100_000, 0),
    ],
)


def test_the_files_lines_add_up_to_the_last() -> None:
    lines = list(csv.DictReader(csv_of(STATEMENT).splitlines()))
    assert tuple(lines[0]) == COLUMNS
    amounts = [Decimal(line["amount_inr"]) for line in lines]
    assert sum(amounts[:-1]) == amounts[-1] == Decimal("102.999999993")
    assert [line["line"] for line in lines] == ["opening", "entry", "entry", "debit", "debit", "closing"]
    assert lines[3]["what"] == f"'{FORMULA}" and lines[3]["day_ist"] == "2026-05-31"


def test_the_page_shows_exact_amounts_and_no_markup_of_others() -> None:
    page = render(STATEMENT)
    for text in ("June 2026", "₹5.000000001", "₹102.999999993", "₹2.000000001", "1,00,000", "never changes"):
        assert text in page
    assert "<b>note</b>" not in page and "&lt;b&gt;note" in page


def test_an_open_month_says_up_to_when_it_tells() -> None:
    page = render(Statement("o", 202606, ist.month_start_ms(202606) + 1_000, False, 0, [], []))
    assert "01 June 2026, 00:00:01 IST" in page
    assert "No request was charged this month" in page and "None this month" in page
