"""When an org is told of something: a budget that a key has nearly or wholly spent, a statement, an unusual hour.

Owns: the rule, and that nothing is told twice.
Called by: `posting/reviewing.py` at the end of a unit, for accounts that need a look.
Next: the mailer reads the mail and hands it to SMTP; the sender of webhooks posts the webhook.

A share of a budget is told of once in an IST month, whatever is charged afterwards. Another budget is another thing to
be told of only where it is larger than all that the org was told of in that month: so a budget that is moved up and
down does not bring the same mail again. Where both shares are reached at once only the whole is told.

A statement is told of once, when its month is over: from then on nothing is posted in it. Who wants to be told of statements
only later is not told of those before. Of unusual hours an org is told at most once in 24 hours, by the time of posting,
and only while the hour is not long ago.

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
    StatementReady,
    Told,
    ToldBudget,
    UnusualHour,
    WebhookMessage,
    is_near,
)

HISTORY_MS = 14 * ist.DAY_MS
"""How long an org has to be signed up before an hour of it can be unusual."""
UNUSUAL_AGE_MAX_MS = 6 * 3_600_000
"""How long after its beginning an hour is told of."""


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
    return due, structs.replace(told, budgets=budgets)


def forgetting(told: Told, account: Account) -> Told:
    """Return what an org was told without the keys that it has no more."""
    known = account.profile.keys
    return structs.replace(told, budgets={k: v for k, v in told.budgets.items() if k in known})


def due_statement(
    account: Account, told: Told, month: int, at_ms: int
) -> tuple[tuple[str, StatementReady] | None, Told]:
    """Return the id and the notice of a statement that an org is to be told of, if it is, and what it was told after.

    Only the month before the present one counts, and only where the org had signed up by its end.
    """
    profile = account.profile
    end_ms = ist.month_start_ms(ist.month_of(at_ms))
    is_last = month == ist.month_of(end_ms - 1)
    had_account = profile.signed_up_ms is not None and profile.signed_up_ms < end_ms
    if not is_last or not had_account or month <= told.month:
        return None, told
    after = structs.replace(told, month=month)
    if not profile.notices.statement_ready or not can_be_told(account):
        return None, after
    return (f"statement_ready:{account.org}:{month}", StatementReady(month)), after


def due_unusual_hour(
    account: Account, told: Told, notice: UnusualHour, at_ms: int
) -> tuple[tuple[str, UnusualHour] | None, Told]:
    """Return the id and the notice of an unusual hour that an org is to be told of, if it is, and what it was told after."""
    profile = account.profile
    is_young = profile.signed_up_ms is None or at_ms - profile.signed_up_ms < HISTORY_MS
    is_late = not 0 <= at_ms - notice.hour_ms < UNUSUAL_AGE_MAX_MS
    is_quiet = told.unusual_ms > 0 and at_ms - told.unusual_ms < ist.DAY_MS
    if is_young or is_late or is_quiet or not profile.notices.unusual_hour or not can_be_told(account):
        return None, told
    key = profile.keys.get(notice.key_id)
    named = structs.replace(notice, key_name=key.name if key is not None else "")
    notice_id = f"unusual_hour:{account.org}:{notice.hour_ms}"
    return (notice_id, named), structs.replace(told, unusual_ms=at_ms)


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
