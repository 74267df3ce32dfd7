"""The documents of outcomes: in step with the types, and nothing in them is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import contract_tables
from pipeline.outcomes import DeadLetterReason, RefusalCode


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
    (tmp_path / "events.md").write_text(events.replace("`unpriced`", "`unprized`"), encoding="utf-8")
    contract_tables.write(tmp_path)
    for name, text in contract_tables.documents().items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text
