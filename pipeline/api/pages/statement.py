"""A statement as a page to print, and as a file for spreadsheets. Nothing is fetched from anywhere.

Owns: the page's words and look, and the columns of the file. Pure: a statement in, text out.
Called by: `api/routes/statements.py`. Next: `api/templates/statement.html`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from pipeline import ist
from pipeline.api.http.cells import safe_cell
from pipeline.api.pages.receipt import SCRIPT, STYLE, policy_of
from pipeline.api.pages.templates import template
from pipeline.journal import LedgerRow
from pipeline.money import NANO_PER_RUPEE, format_inr
from pipeline.rupee_text import grouped
from pipeline.statements import Debit, Statement

G = TypeVar("G", bound=Hashable)

_STYLE = (
    STYLE
    + """
table { width: 100%; border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .35rem .5rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; border-top: 0; }
.n { text-align: right; padding-right: 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
tfoot td { font-weight: 600; border-top: 2px solid var(--line); }
h2 { font-size: 1.1rem; margin: 1.75rem 0 .25rem; }
.wide { overflow-x: auto; }
.sum { margin: 1.25rem 0; }
.sum .last { border-top: 2px solid var(--brand); font-weight: 600; }
.sum dd { text-align: right; font-variant-numeric: tabular-nums; }
"""
)
POLICY = policy_of(_STYLE)
"""The page's content policy: its one style and its one script, and nothing from anywhere."""

KINDS = {
    "promo": "Promotional credit",
    "topup": "Top-up",
    "refund": "Refund",
    "dispute": "Dispute",
    "correction": "Correction",
}
COLUMNS = (
    "line",
    "day_ist",
    "what",
    "key_id",
    "provider",
    "requests",
    "tokens",
    "amount_inr",
)
"""Of the file. The amounts of all lines but the last add up to that of the last, the closing balance."""


def render(statement: Statement) -> str:
    """Return the page of a statement."""
    line = statement.line
    return template("statement.html").render(
        style=_STYLE,
        script=SCRIPT,
        org=statement.org,
        month=_month_name(statement.month),
        closed=statement.closed,
        through=ist.datetime_of(statement.through_ms).strftime("%d %B %Y, %H:%M:%S IST"),
        opening=grouped(line.opening_nano),
        credits=grouped(line.credits_nano),
        debits=grouped(line.debits_nano),
        closing=grouped(line.closing_nano),
        entries=[_shown(entry) for entry in statement.entries],
        models=_by_model(statement),
        days=_by_day(statement),
    )


def csv_of(statement: Statement) -> str:
    """Return the file of a statement: its opening balance, its entries and debits, its closing balance."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(_cells(statement))
    return text.getvalue()


def _cells(statement: Statement) -> Iterator[tuple[str, ...]]:
    line = statement.line
    first = ist.date_of(ist.day_of(ist.month_start_ms(statement.month))).isoformat()
    last = ist.date_of(ist.day_of(statement.through_ms)).isoformat()
    yield "opening", first, "", "", "", "", "", format_inr(line.opening_nano)
    for entry in statement.entries:
        day = ist.date_of(ist.day_of(entry.posted_ms)).isoformat()
        yield "entry", day, _words(entry, safe=True), "", "", "", "", format_inr(entry.amount_nano)
    for debit in statement.debits:
        yield (
            "debit",
            debit.day,
            safe_cell(debit.model),
            safe_cell(debit.key_id),
            safe_cell(debit.provider),
            str(debit.requests),
            str(debit.tokens),
            format_inr(-debit.cost_nano),
        )
    yield "closing", last, "", "", "", "", "", format_inr(line.closing_nano)


def _words(entry: LedgerRow, *, safe: bool = False) -> str:
    parts = (KINDS.get(entry.kind, entry.kind), entry.promo_code, entry.payment_id, entry.note)
    text = " · ".join(part for part in parts if part)
    return safe_cell(text) if safe else text


def _shown(entry: LedgerRow) -> dict[str, str]:
    return {
        "at": ist.datetime_of(entry.posted_ms).strftime("%d %b %Y, %H:%M"),
        "words": _words(entry),
        "amount": grouped(entry.amount_nano),
        "balance": grouped(entry.balance_after_nano),
    }


def _by_model(statement: Statement) -> list[dict[str, str]]:
    sums = _sums(statement, lambda debit: (debit.model, debit.provider))
    dearest = sorted(sums.items(), key=lambda item: (-item[1][2], item[0]))
    return [
        {"model": model, "provider": provider, **_amounts(*amounts)} for (model, provider), amounts in dearest
    ]


def _by_day(statement: Statement) -> list[dict[str, str]]:
    sums = _sums(statement, lambda debit: debit.day)
    return [{"day": day, **_amounts(*amounts)} for day, amounts in sorted(sums.items())]


def _sums(statement: Statement, group_of: Callable[[Debit], G]) -> dict[G, tuple[int, int, int]]:
    """Return requests, tokens and nano-rupees of the debits of each group."""
    sums: dict[G, tuple[int, int, int]] = {}
    for debit in statement.debits:
        group = group_of(debit)
        requests, tokens, cost_nano = sums.get(group, (0, 0, 0))
        sums[group] = requests + debit.requests, tokens + debit.tokens, cost_nano + debit.cost_nano
    return sums


def _amounts(requests: int, tokens: int, cost_nano: int) -> dict[str, str]:
    return {"requests": _count(requests), "tokens": _count(tokens), "cost": grouped(cost_nano)}


def _count(number: int) -> str:
    return grouped(number * NANO_PER_RUPEE, symbol="").removesuffix(".00")


def _month_name(month: int) -> str:
    return ist.datetime_of(ist.month_start_ms(month)).strftime("%B %Y")
