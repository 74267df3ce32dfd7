"""Which accounts need a look after a unit of work: those for which a verdict or an alert may be due.

Owns: the short answer for the many that only were charged and are far from every limit.
Called by: `posting/unit.py` at the end of a unit. Next: `accounts/verdicts.py` and `accounts/alerts.py` decide.
"""

from __future__ import annotations

from pipeline.accounts.model import Account
from pipeline.accounts.verdicts import is_same_balance


def needs_review(account: Account) -> bool:
    """Whether a verdict or an alert may be due; False only where neither is, whatever the profile says.

    Charges alone make a key refused only when they bring it to its limit, which `charge` notes. Windows that end by
    themselves were in the last verdict. A command that changes the profile leaves `watched` None.
    """
    spending = account.spending
    watched = spending.watched
    if account.limit_reached or watched is None or spending.verdict_refused:
        return True
    balance_nano = spending.balance_nano
    if not is_same_balance(spending.verdict_nano, balance_nano):
        return True
    threshold_nano = watched.threshold_nano
    return threshold_nano is not None and (balance_nano < threshold_nano) is not spending.is_below
