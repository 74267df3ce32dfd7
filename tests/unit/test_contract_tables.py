"""The documents of outcomes: in step with the types, and nothing in them is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import contract_tables
from pipeline.outcomes import DeadLetterReason, KeyRefusal, RefusalCode


def test_the_pages_are_those_of_the_types() -> None:
    for name, text in contract_tables.documents().items():
        committed = (contract_tables.DOCS / name).read_text(encoding="utf-8")
        assert committed == text, f"docs/{name} is out of date: run `python -m pipeline.contract`"


def test_every_code_and_reason_has_a_row() -> None:
    codes, reasons = contract_tables.code_table(), contract_tables.reason_table()
    for code in RefusalCode:
        assert f"| `{code}` | {code.status} | `{code.type}` | {code.when} | {code.remedy} |" in codes
    for reason in DeadLetterReason:
        assert f"| `{reason}` | {reason.when} | {reason.remedy} |" in reasons


def test_a_table_takes_the_place_between_its_markers_and_no_other() -> None:
    start, end = "<!-- made by python -m pipeline.contract: a -->", "<!-- end of a -->"
    page = f"before\n{start}\nold\n{end}\nafter\n"
    assert contract_tables.with_table(page, "a", "new \\1") == f"before\n{start}\nnew \\1\n{end}\nafter\n"
    with pytest.raises(ValueError, match="0 places for b"):
        contract_tables.with_table(page, "b", "new")


def test_writing_changes_what_is_out_of_date(tmp_path: Path) -> None:
    events = (contract_tables.DOCS / "events.md").read_text(encoding="utf-8")
    (tmp_path / "events.md").write_text(events.replace("| `unpriced` |", "| `unprized` |"), encoding="utf-8")
    contract_tables.write(tmp_path)
    for name, text in contract_tables.documents().items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_the_gateways_manual_gives_each_code_its_status() -> None:
    manual = (contract_tables.DOCS / "gateway.md").read_text(encoding="utf-8")
    asking = manual.partition("\n## Asking\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\d{3}) \|", asking, flags=re.MULTILINE)
    told = {code: int(status) for codes, status in rows for code in re.findall("[a-z_]+", codes)}
    assert told == {
        code.value: code.status
        for code in (
            RefusalCode.UNAVAILABLE,
            RefusalCode.INVALID_API_KEY,
            RefusalCode.INSUFFICIENT_CREDITS,
            *(reason.code for reason in KeyRefusal),
            RefusalCode.RATE_LIMIT_EXCEEDED,
        )
    }
