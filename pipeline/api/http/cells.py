"""Texts in files for spreadsheets: names that no spreadsheet takes for a formula.

Owns: what counts as a formula. Called by: `api/routes/csv_files.py`, `api/pages/statement.py`.
"""

from __future__ import annotations

import re

FORMULA = r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]"  # noqa: RUF001 - full-width signs begin formulas too
"""A text that a spreadsheet may take for a formula, as OWASP's «CSV Injection» has it; the engine reads the same pattern."""

_is_formula = re.compile(FORMULA).search


def safe_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet computes."""
    return f"'{text}" if _is_formula(text) else text
