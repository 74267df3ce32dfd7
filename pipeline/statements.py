"""Statements: an org's month by time of posting, in IST. Pure.

Owns: what a statement is, that its sums hold, and the months there are.
Called by: `api/services/history.py` makes them of the rows, `api/routes/statements.py` and `api/pages/statement.py` show them.

A month is what was posted in it, so a month that is over never changes: a late request stands in the month it was
charged in, with its own day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from pipeline import ist
from pipeline.journal import LedgerRow

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])\Z", re.ASCII)


class StatementError(Exception):
    """The parts of a statement contradict each other: rows are missing, or were changed."""


class Debit(Struct, frozen=True, array_like=True):
    """What requests of one IST day, model, key and provider cost that were charged in a month, in nano-rupees."""

    day: str
    model: str
    key_id: str
    provider: str
    requests: int
    tokens: int
    cost_nano: int


def added_up(debits: Iterable[Debit]) -> list[Debit]:
    """Return debits with those of the same day, model, key and provider added up, in that order, without those of no request.

    Requests may be fewer than none: they are taken off.
    """
    sums: dict[tuple[str, str, str, str], tuple[int, int, int]] = {}
    for each in debits:
        group = each.day, each.model, each.key_id, each.provider
        requests, tokens, cost_nano = sums.get(group, (0, 0, 0))
        sums[group] = requests + each.requests, tokens + each.tokens, cost_nano + each.cost_nano
    return [Debit(*group, *found) for group, found in sorted(sums.items()) if found[0]]


class MonthSums(Struct, frozen=True, array_like=True):
    """What was credited and debited in a month YYYYMM, in nano-rupees."""

    month: int
    credits_nano: int
    debits_nano: int


class StatementLine(Struct, frozen=True):
    """A month in the list of statements. Amounts in nano-rupees; `credits_nano` is below zero where more was taken back."""

    month: int
    opening_nano: int
    credits_nano: int
    debits_nano: int
    closed: bool

    @property
    def closing_nano(self) -> int:
        """The balance at the month's end, or up to now."""
        return self.opening_nano + self.credits_nano - self.debits_nano


class Statement(Struct, frozen=True):
    """A month of an org. `through_ms` is the last instant that it tells of: the month's last where it is `closed`, else now.

    A closed month is over: nothing is ever added to it.
    """

    org: str
    month: int
    through_ms: int
    closed: bool
    opening_nano: int
    entries: Sequence[LedgerRow]
    debits: Sequence[Debit]

    @property
    def line(self) -> StatementLine:
        """The month as it stands in the list."""
        return StatementLine(
            self.month,
            self.opening_nano,
            sum(entry.amount_nano for entry in self.entries),
            sum(debit.cost_nano for debit in self.debits),
            self.closed,
        )


def checked(statement: Statement, closing_nano: int) -> Statement:
    """Return a statement whose sums lead to the balance at its end. Raises StatementError where they do not."""
    computed_nano = statement.line.closing_nano
    if computed_nano != closing_nano:
        raise StatementError(
            f"the statement {text_of(statement.month)} of {statement.org} adds up to {computed_nano} nano-rupees, but the "
            f"balance is {closing_nano}: `metering verify` says what is wrong"
        )
    return statement


def months(sums: Sequence[MonthSums], now_ms: int) -> list[StatementLine]:
    """Return every month from the first with a posting to that of `now_ms`, newest first; `sums` are oldest first."""
    if not sums:
        return []
    by_month = {each.month: each for each in sums}
    lines, month, balance_nano = list[StatementLine](), sums[0].month, 0
    this_month = max(ist.month_of(now_ms), sums[-1].month)
    while month <= this_month:
        of_month = by_month.get(month, MonthSums(month, 0, 0))
        is_over = ist.month_end_ms(month) <= now_ms
        lines.append(StatementLine(month, balance_nano, of_month.credits_nano, of_month.debits_nano, is_over))
        balance_nano = lines[-1].closing_nano
        month = ist.next_month(month)
    return lines[::-1]


def month_of(text: str) -> int | None:
    """Return the month YYYYMM of a text YYYY-MM, None for another text or a month before 1970."""
    match = _MONTH.match(text)
    month = int(match[1]) * 100 + int(match[2]) if match else 0
    return month if month >= FIRST_MONTH else None


FIRST_MONTH = 197001


def text_of(month: int) -> str:
    """Return a month YYYYMM as YYYY-MM."""
    return f"{month // 100:04d}-{month % 100:02d}"
