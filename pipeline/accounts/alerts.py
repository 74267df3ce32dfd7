"""The low-balance alert: when an org gets a mail that its balance has fallen below its threshold.

Owns: the rule, and its stamps in the account.
Called by: `posting/reviewing.py` at the end of a unit, for every account the unit touched.
Next: the mailer reads the mail's record on `metering.mail` and hands it to SMTP.

A mail is due when the balance goes from not below to below the threshold. Setting a threshold above the balance
counts as that too: otherwise no mail would ever come. One that falls due within 24 hours of the last mail is
dropped, not put off: the next mail needs the balance to rise above the threshold and fall below it again.

Another is due when the balance falls to zero or below, since requests are refused from then on: once a fall, however
short ago the last mail was. The last verdict tells whether this is a fall: below 1,000 rupees each change of the
balance makes one. An org without a threshold wants no mails and gets neither.
"""

from __future__ import annotations

from pipeline.accounts.model import Account
from pipeline.accounts.notices import LowBalance, Mail
from pipeline.ist import DAY_MS

KIND = "low_balance"
QUIET_MS = DAY_MS


def due_alert(account: Account, at_ms: int) -> Mail | None:
    """Return the mail that is due now, if one is, and stamp the account: it is changed in place.

    To be asked before the verdict of the same unit is noted in the account.
    """
    spending, threshold_nano = account.spending, account.profile.threshold_nano
    if threshold_nano is None:
        spending.is_below = False
        return None
    is_below = spending.balance_nano < threshold_nano
    has_fallen_below = is_below and not spending.is_below
    spending.is_below = is_below
    has_run_out = spending.balance_nano <= 0 < (spending.verdict_nano or 0)
    is_quiet = spending.alerted_ms > 0 and at_ms - spending.alerted_ms < QUIET_MS
    if not account.profile.email or not (has_run_out or (has_fallen_below and not is_quiet)):
        return None
    spending.alerted_ms = at_ms
    return Mail(
        # A threshold's mail and an empty balance's may fall into one millisecond: what was booked tells them apart.
        id=f"{KIND}:{account.org}:{at_ms}:{spending.debited_nano}:{spending.entry_id}",
        org=account.org,
        to=account.profile.email,
        org_name=account.profile.name,
        at_ms=at_ms,
        about=LowBalance(spending.balance_nano, threshold_nano),
    )
