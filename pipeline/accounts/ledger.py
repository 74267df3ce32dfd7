"""Post entries to a balance: the only way money moves.

Owns: the ledger entry, what a posting is, and `apply` and `charge`, which make one so. Recovery,
`metering verify` and the simulator replay these two alone.
Called by: `posting/`. Decided by: `accounts/decide.py` for commands, `posting/requests.py` for requests.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

from pipeline.accounts.model import (
    DAYS_KEPT,
    MONTHS_KEPT,
    TRIAL_REQUESTS_PER_DAY,
    UNREGISTERED_KEYS_KEPT,
    Account,
    Key,
    KeyUsage,
    Profile,
    Spending,
)
from pipeline.accounts.notices import Notice, Told, is_near
from pipeline.accounts.payments import MoneyRecord
from pipeline.ist import month_of_day
from pipeline.money import MAX_RUPEES, NANO_PER_RUPEE
from pipeline.outcomes import LedgerKind

R_co = TypeVar("R_co", covariant=True)

CREDITED_MAX_NANO = 4 * MAX_RUPEES * NANO_PER_RUPEE
"""No account is credited or corrected beyond this in total: Int64 must hold its balance."""


class LedgerEntry(Struct, frozen=True):
    """One money event of an org's ledger, in nano-rupees; the sign says which way.

    Single requests are not entries.
    """

    kind: LedgerKind
    amount_nano: int
    payment_id: str | None = None
    order_id: str | None = None
    promo_code: str | None = None
    note: str | None = None


class Posting(Struct, Generic[R_co], frozen=True):
    """What a command does: its result, ledger entries, the profile after it, the keys it changed, the ids of those gone.

    `records` are the orders, payments and refunds as they are after it, `notice` is what it tells the org, with its id, and
    `told` what the org was told after it, where that changes.
    """

    result: R_co
    entries: tuple[LedgerEntry, ...] = ()
    profile: Profile | None = None
    keys: tuple[Key, ...] = ()
    gone_keys: tuple[str, ...] = ()
    records: tuple[MoneyRecord, ...] = ()
    notice: tuple[str, Notice] | None = None
    told: Told | None = None


def apply(spending: Spending, entry: LedgerEntry) -> Spending:
    """Post a ledger entry: `spending` is changed in place and returned."""
    spending.credited_nano += entry.amount_nano
    return spending


def charge(
    account: Account, key_id: str, *, trial: bool, day: int, cost_nano: int, requests: int = 1
) -> Account:
    """Post requests of one key and IST day, whatever the balance: `account` is changed in place and returned.

    What they cost together is debited and counts in the key's spending of the IST month that `day`, the
    requests' own IST day, belongs to; the requests count on that day whatever they cost.
    """
    spending = account.spending
    spending.debited_nano += cost_nano
    usage = spending.usage(key_id) or _open_key(account, key_id)
    days, months, month = usage.days, usage.months, month_of_day(day)
    if day in days:
        days[day] += requests
    else:
        if day > max(days, default=day - 1):
            usage.trial = False
        days[day] = requests
        _keep_newest(days, DAYS_KEPT)
    if trial and not usage.trial:
        # It counts for what was used on later days too.
        usage.trial = account.limit_reached = True
    if trial:
        together = spending.trial_days.get(day, 0) + requests
        spending.trial_days[day] = together
        _keep_newest(spending.trial_days, DAYS_KEPT)
        if together >= TRIAL_REQUESTS_PER_DAY:
            account.limit_reached = True
    if cost_nano:
        if month in months:
            months[month] += cost_nano
        else:
            months[month] = cost_nano
            _keep_newest(months, MONTHS_KEPT)
    watched = spending.watched
    limits = watched.limits.get(key_id) if watched is not None else None
    if (limits is not None or usage.trial) and _is_at_limit(usage, limits, day, month, cost_nano):
        account.limit_reached = True
    return account


def _is_at_limit(
    usage: KeyUsage, limits: tuple[int | None, int | None] | None, day: int, month: int, cost_nano: int
) -> bool:
    """Whether a key that was just charged `cost_nano` may have to be refused, or its org told that it nearly has to be.

    Whether that is so is for the profile to say.
    """
    requests = usage.days.get(day, 0)
    if usage.trial and requests >= TRIAL_REQUESTS_PER_DAY:
        return True
    budget_nano, daily_limit = limits or (None, None)
    if daily_limit is not None and requests >= daily_limit:
        return True
    if budget_nano is None:
        return False
    spent_nano = usage.months.get(month, 0)
    comes_near = is_near(spent_nano, budget_nano) and not is_near(spent_nano - cost_nano, budget_nano)
    return spent_nano >= budget_nano or comes_near


def _open_key(account: Account, key_id: str) -> KeyUsage:
    """Return a new usage for a key not seen before.

    Keys that nobody registered are kept up to a number, the least recently used dropped first: they
    have no budget, and a gateway's mistake must not let an account grow without bound.
    """
    spending = account.spending
    keys = spending.decoded
    if len(keys) + len(spending.encoded) >= UNREGISTERED_KEYS_KEPT:
        keys = spending.keys
        strangers = [k for k in keys if k not in account.profile.keys]
        if len(strangers) >= UNREGISTERED_KEYS_KEPT:
            del keys[min(strangers, key=lambda k: (max(keys[k].days, default=0), k))]
    usage = keys[key_id] = KeyUsage()
    return usage


def _keep_newest(counts: dict[int, int], kept: int) -> None:
    while len(counts) > kept:
        del counts[min(counts)]
