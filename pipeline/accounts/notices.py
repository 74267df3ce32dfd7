"""Notices: what an org is told without asking, which of it an org wants, and what it was told already.

Owns: the shapes of notices, of the mail that carries one on `metering.mail` and of the webhook that does on
`metering.webhooks`, and of what an account keeps about them.
Called by: `accounts/alerts.py` and `accounts/telling.py`, which decide that one is due; `accounts/model.py`, which
keeps what an org wants; `posting/state.py`, which keeps what it was told.
Next: `mail/protocol.py` sends mails and `webhook/protocol.py` webhooks, across Kafka.

Amounts are nano-rupees, IST months are numbers such as 202611, and percentages are of a key's monthly budget.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, field

from pipeline.formats import MAIL, WEBHOOKS

NEAR_PERCENT, SPENT_PERCENT = 80, 100
"""At which shares of its monthly budget a key's org is told of it."""


def is_near(spent_nano: int, budget_nano: int) -> bool:
    """Whether a key has spent so much of a budget that its org may have to be told of it."""
    return spent_nano * 100 >= budget_nano * NEAR_PERCENT


class LowBalance(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="low_balance"):
    """The balance has fallen below the org's threshold, or to zero."""

    balance_nano: int
    threshold_nano: int


class BudgetReached(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="budget_reached"):
    """A key has spent `percent` (80 or 100) of the budget that it has in each IST month, in that month."""

    key_id: str
    key_name: str
    month: int
    percent: int
    budget_nano: int
    spent_nano: int


class StatementReady(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="statement_ready"
):
    """An IST month is over, and its statement never changes any more."""

    month: int


class UnusualHour(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="unusual_hour"):
    """The hour that began at `hour_ms` cost many times what that hour of the week usually does.

    `key_id` and `model` are what stands out most: what it cost more than usual.
    """

    hour_ms: int
    cost_nano: int
    usual_nano: int
    key_id: str
    key_name: str
    model: str


Notice = LowBalance | BudgetReached | StatementReady | UnusualHour
NoticeSwitch = Literal["mail", "budget_reached", "statement_ready", "unusual_hour"]
"""What of `NoticeSettings` is on or off."""
TOLD_KINDS = ("budget_reached", "statement_ready", "unusual_hour")
"""The kinds of notices beside the low balance, as they are called in records, in ids and in metrics."""


def kind_of(notice: Notice) -> str:
    """Return the kind of a notice."""
    kind = notice.__struct_config__.tag
    assert isinstance(kind, str)
    return kind


class Mail(Struct, frozen=True, tag_field="format", tag=MAIL.number):
    """A mail to an org that carries a notice. Its `id` is the same in every copy of it, and no other mail's."""

    id: str
    org: str
    to: str
    org_name: str
    at_ms: int
    about: Notice


class WebhookMessage(Struct, frozen=True, tag_field="format", tag=WEBHOOKS.number):
    """A notice to an org's webhook. Its `id` is that of the mail that tells the same; `nonce` is the secret's."""

    id: str
    org: str
    url: str
    nonce: str
    at_ms: int
    about: Notice


class WebhookTarget(Struct, array_like=True, frozen=True, gc=False):
    """Where notices are sent beside mails: an https URL, and what the secret that signs them is drawn from.

    The secret itself is never kept: `webhook/signing.py` draws it from the servers' secret, the org and the nonce.
    """

    url: str
    nonce: str


class NoticeSettings(Struct, array_like=True, frozen=True, gc=False):
    """What an org wants to be told of, beside its balance, which has the threshold, and by which ways.

    By default it is told of all by mail.
    """

    mail: bool = True
    budget_reached: bool = True
    webhook: WebhookTarget | None = None
    statement_ready: bool = True
    unusual_hour: bool = True


BY_DEFAULT = NoticeSettings()
"""What an org wants that has chosen nothing: nothing is kept of it."""


class ToldBudget(Struct, array_like=True, frozen=True, gc=False):
    """Of which budgets an org was told in an IST month that a key has spent them: the largest one of each share.

    0 where it was not told. A budget that is no larger than one that it was told of is not told of again.
    """

    month: int = 0
    near_nano: int = 0
    spent_nano: int = 0


class Told(Struct, array_like=True, frozen=True, gc=False):
    """What an org was told already: kept beside its account, and only where there is anything.

    `budgets` are by key id. `month` is the newest month whose statement it was told of, `unusual_ms` the time of posting
    when it was last told of an unusual hour; both are 0 before.
    """

    budgets: dict[str, ToldBudget] = field(default_factory=dict)
    month: int = 0
    unusual_ms: int = 0


encode_mail = msgspec.json.Encoder().encode
encode_webhook = msgspec.json.Encoder().encode
encode_told = msgspec.msgpack.Encoder().encode
_decode_told = msgspec.msgpack.Decoder(Told).decode


def decode_told(value: bytes | None) -> Told:
    """Return what an org was told by the record that is kept of it; nothing where there is none."""
    return Told() if value is None else _decode_told(value)
