"""Look at the accounts that a unit touched: what gateways and orgs have to be told of them.

Owns: what is due of verdicts, alerts and notices for an account, and the records that keep what was told.
Called by: `posting/unit.py` when a unit is closed.
Next: `accounts/verdicts.py`, `accounts/alerts.py` and `accounts/telling.py` decide.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.accounts import alerts, telling, verdicts
from pipeline.accounts.model import Account
from pipeline.accounts.notices import Notice, encode_mail, encode_webhook, kind_of
from pipeline.posting.beside_journal import alert_mark, alert_record
from pipeline.posting.state import PartitionState, StateRecord


def told_count(kind: str) -> str:
    """Return what the notices of a kind that a unit ordered are counted under."""
    return f"told {kind}"


@dataclass(slots=True)
class Reviewed:
    """What is due for the accounts that were looked at, as keys and values of records, and how much of each kind.

    `alerts` is what alerts go by, of the accounts of which it changed; `told` what orgs were told, for the state.
    """

    verdicts: list[tuple[bytes, bytes]] = field(default_factory=list)
    mail: list[tuple[bytes, bytes]] = field(default_factory=list)
    webhooks: list[tuple[bytes, bytes]] = field(default_factory=list)
    alerts: list[StateRecord] = field(default_factory=list)
    told: list[StateRecord] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def review(self, state: PartitionState, account: Account) -> None:
        """Add what is due for an account as of the time of posting; the account is changed in place."""
        posted_ms, org = state.meta.posted_ms, account.org.encode()
        before = alert_mark(account.spending)
        alert = alerts.due_alert(account, posted_ms)
        if alert is not None:
            self.mail.append((org, encode_mail(alert)))
            self.counts["alerts"] += 1
        mark = alert_mark(account.spending)
        if mark != before:
            self.alerts.append(alert_record(account.org, mark))
        self._tell_budgets(state, account)
        verdict = verdicts.due_verdict(account, posted_ms)
        if verdict is not None:
            account.spending.verdict_nano = verdict.balance_nano
            account.spending.verdict_refused = verdict.refused
            self.verdicts.append((org, verdicts.encode(verdict)))

    def tell(self, account: Account, notice_id: str, notice: Notice, at_ms: int) -> None:
        """Add the mail and the webhook that tell an org of a notice."""
        mail = telling.mail_of(account, notice, notice_id, at_ms)
        if mail is not None:
            self.mail.append((account.org.encode(), encode_mail(mail)))
        webhook = telling.webhook_of(account, notice, notice_id, at_ms)
        if webhook is not None:
            self.webhooks.append((account.org.encode(), encode_webhook(webhook)))
        self.counts[told_count(kind_of(notice))] += 1

    def _tell_budgets(self, state: PartitionState, account: Account) -> None:
        """Tell of each budget that a key has nearly or wholly spent and that the org was not told of."""
        posted_ms = state.meta.posted_ms
        reached = telling.reached_budgets(account, posted_ms)
        if not reached or not telling.can_be_told(account):
            return
        due, told = telling.not_told(reached, state.told(account.org))
        for notice in due:
            self.tell(account, telling.budget_id(account.org, notice), notice, posted_ms)
        if due:
            self.told.append(state.save_told(account.org, telling.forgetting(told, account)))
