"""When an org is told that a key has spent 80 or 100 % of its monthly budget.

Owns: the rule, and that nothing is told twice.
Called by: `posting/reviewing.py` at the end of a unit, for accounts that need a look.
Next: the mailer reads the mail and hands it to SMTP; the sender of webhooks posts the webhook.

A share of a budget is told of once in an IST month, whatever is charged afterwards. Another budget is another thing to
be told of only where it is larger than all that the org was told of in that month: so a budget that is moved up and
down does not bring the same mail again. Where both shares are reached at once only the whole is told.

What a charge of a late request adds to a month that is over is told to nobody: no key is refused for it any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from pipeline import ist
from pipeline.accounts.model import Account, Key
from pipeline.accounts.notices import (
    NEAR_PERCENT,
    SPENT_PERCENT,
    BudgetReached,
    Mail,
    Notice,
    Told,
    ToldBudget,
    WebhookMessage,
    is_near,
)


def reached_budgets(account: Account, at_ms: int) -> list[BudgetReached]:
    """Return the budgets of which a key has spent 80 or 100 %, in this month or a later one, whoever was told of it.

    A budget of 0 is none that can be spent: its key is refused from the beginning.
    """
    profile = account.profile
    if not profile.notices.budget_reached:
        return []
    this_month = ist.month_of(at_ms)
    budgeted = [key for key in profile.keys.values() if key.budget_nano and not key.revoked]
    return [reached for key in budgeted for reached in _reached(account, key, this_month)]


def _reached(account: Account, key: Key, this_month: int) -> Iterator[BudgetReached]:
    usage, budget_nano = account.spending.usage(key.key_id), key.budget_nano or 0
    for month, spent_nano in usage.months.items() if usage else ():
        if month >= this_month and is_near(spent_nano, budget_nano):
            percent = SPENT_PERCENT if spent_nano >= budget_nano else NEAR_PERCENT
            yield BudgetReached(key.key_id, key.name, month, percent, budget_nano, spent_nano)


def not_told(reached: list[BudgetReached], told: Told) -> tuple[list[BudgetReached], Told]:
    """Return which of these notices the org was not told yet, and what it was told once it has been."""
    due, budgets = [], dict(told.budgets)
    for notice in sorted(reached, key=lambda each: each.month):
        before = budgets.get(notice.key_id, ToldBudget())
        if before.month < notice.month:
            before = ToldBudget(notice.month)
        is_spent = notice.percent == SPENT_PERCENT
        largest_nano = before.spent_nano if is_spent else before.near_nano
        if before.month == notice.month and notice.budget_nano > largest_nano:
            due.append(notice)
            near_nano = max(before.near_nano, notice.budget_nano)
            spent_nano = notice.budget_nano if is_spent else before.spent_nano
            budgets[notice.key_id] = ToldBudget(notice.month, near_nano, spent_nano)
    return due, Told(budgets)


def forgetting(told: Told, account: Account) -> Told:
    """Return what an org was told without the keys that it has no more."""
    known = account.profile.keys
    return structs.replace(told, budgets={k: v for k, v in told.budgets.items() if k in known})


def can_be_told(account: Account) -> bool:
    """Whether there is an address to tell an org anything at."""
    return _has_mail(account) or account.profile.notices.webhook is not None


def mail_of(account: Account, notice: Notice, notice_id: str, at_ms: int) -> Mail | None:
    """Return the mail that tells an org of a notice; None where it wants no mails or has no address."""
    profile = account.profile
    if not _has_mail(account):
        return None
    return Mail(notice_id, account.org, profile.email, profile.name, at_ms, notice)


def webhook_of(account: Account, notice: Notice, notice_id: str, at_ms: int) -> WebhookMessage | None:
    """Return the webhook that tells an org of a notice; None where it has set no address for any."""
    target = account.profile.notices.webhook
    if target is None:
        return None
    return WebhookMessage(notice_id, account.org, target.url, target.nonce, at_ms, notice)


def _has_mail(account: Account) -> bool:
    return account.profile.notices.mail and bool(account.profile.email)


def budget_id(org: str, notice: BudgetReached) -> str:
    """Return the id of a notice: the same for the same share of the same budget of the same key and month."""
    return f"budget_reached:{org}:{notice.key_id}:{notice.month}:{notice.percent}:{notice.budget_nano}"
