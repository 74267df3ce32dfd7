"""The low-balance alert: when an org gets a mail that its balance has fallen below its threshold.

Owns: the rule, its stamps in the account, and the mail's record on `metering.mail`.
Called by: `posting/unit.py` at the end of a unit, for every account the unit touched.
Next: the mailer reads the record and hands it to SMTP.

A mail is due when the balance goes from not below to below the threshold. Setting a threshold above the balance
counts as that too: otherwise no mail would ever come. One that falls due within 24 hours of the last mail is
dropped, not put off: the next mail needs the balance to rise above the threshold and fall below it again.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pipeline.accounts.model import Account
from pipeline.ist import DAY_MS

KIND = "low_balance"
QUIET_MS = DAY_MS


class LowBalance(Struct, frozen=True, tag=KIND, tag_field="kind"):
    """The mail to send, with amounts in nano-rupees. Its `id` is the same in every copy of it."""

    id: str
    org: str
    to: str
    org_name: str
    balance_nano: int
    threshold_nano: int
    at_ms: int


encode = msgspec.json.Encoder().encode


def due_alert(account: Account, at_ms: int) -> LowBalance | None:
    """Return the mail that is due now, if one is, and stamp the account: it is changed in place."""
    spending, threshold_nano = account.spending, account.profile.threshold_nano
    if threshold_nano is None or spending.balance_nano >= threshold_nano:
        spending.is_below = False
        return None
    if spending.is_below:
        return None
    spending.is_below = True
    if not account.profile.email or (spending.alerted_ms and at_ms - spending.alerted_ms < QUIET_MS):
        return None
    spending.alerted_ms = at_ms
    return LowBalance(
        id=f"{KIND}:{account.org}:{at_ms}",
        org=account.org,
        to=account.profile.email,
        org_name=account.profile.name,
        balance_nano=spending.balance_nano,
        threshold_nano=threshold_nano,
        at_ms=at_ms,
    )
