"""What a mail says of its notice: the subject, the template, and the facts that the template is filled with.

Owns: the words of a subject, and how amounts and months are written in mails. Pure.
Called by: `mail/render.py`. Next: the templates in `mail/templates/` have the other words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from pipeline import ist
from pipeline.accounts.notices import (
    SPENT_PERCENT,
    BudgetReached,
    LowBalance,
    Notice,
    StatementReady,
    UnusualHour,
    kind_of,
)
from pipeline.rupee_text import grouped_paise


@dataclass(frozen=True)
class Words:
    """What a notice is told with: `template` is a file's name without its ending, `page` a path of the product."""

    subject: str
    template: str
    page: str
    facts: Mapping[str, object]


def words_of(notice: Notice) -> Words:
    """Return what a notice is told with."""
    match notice:
        case LowBalance():
            return _low_balance(notice)
        case BudgetReached():
            return _budget_reached(notice)
        case StatementReady():
            return _statement_ready(notice)
        case UnusualHour():
            return _unusual_hour(notice)
    assert_never(notice)


def _low_balance(notice: LowBalance) -> Words:
    is_empty = notice.balance_nano <= 0
    left = grouped_paise(notice.balance_nano, symbol="Rs ")
    return Words(
        f"{'Balance used up, requests are refused' if is_empty else 'Low balance'}: {left} left",
        kind_of(notice),
        "/billing",
        {
            "balance": grouped_paise(notice.balance_nano),
            "threshold": grouped_paise(notice.threshold_nano),
            "is_empty": is_empty,
        },
    )


def _budget_reached(notice: BudgetReached) -> Words:
    is_spent = notice.percent == SPENT_PERCENT
    budget = grouped_paise(notice.budget_nano, symbol="Rs ")
    subject = "Budget used up, requests refused" if is_spent else f"{notice.percent} % of a budget used"
    return Words(
        f"{subject}: {budget}, key {notice.key_name}",
        kind_of(notice),
        "/keys",
        {
            "key_name": notice.key_name,
            "key_id": notice.key_id,
            "percent": notice.percent,
            "is_spent": is_spent,
            "budget": grouped_paise(notice.budget_nano),
            "spent": grouped_paise(notice.spent_nano),
            "month": month_text(notice.month),
            "ends": ist.datetime_of(ist.month_end_ms(notice.month)).strftime("%d %b %Y, %H:%M IST"),
        },
    )


def _statement_ready(notice: StatementReady) -> Words:
    month = month_text(notice.month)
    return Words(f"Statement of {month}", kind_of(notice), "/statements", {"month": month})


def _unusual_hour(notice: UnusualHour) -> Words:
    begins = ist.datetime_of(notice.hour_ms)
    cost = grouped_paise(notice.cost_nano, symbol="Rs ")
    return Words(
        f"An hour cost {cost}, many times the usual",
        kind_of(notice),
        "/activity",
        {
            "hour": begins.strftime("%d %b %Y, %H:%M IST"),
            "hour_of_week": begins.strftime("%A, %H:%M"),
            "cost": grouped_paise(notice.cost_nano),
            "usual": grouped_paise(notice.usual_nano),
            "key": f"{notice.key_name} ({notice.key_id})" if notice.key_name else notice.key_id,
            "model": notice.model,
        },
    )


def month_text(month: int) -> str:
    """Return an IST month, such as 202611, as a person writes it: November 2026."""
    return ist.datetime_of(ist.month_start_ms(month)).strftime("%B %Y")
