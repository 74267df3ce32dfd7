"""What is written back as a whole has the same fields for as long as it has the same format."""

from __future__ import annotations

import pytest
from msgspec import Struct

from pipeline import formats
from pipeline.accounts.model import (
    Address,
    KeyUsage,
    Refused,
    RememberedAnswer,
    Watched,
    _StoredKey,
    _StoredProfile,
    _StoredSpending,
)
from pipeline.accounts.notices import (
    BudgetReached,
    LowBalance,
    Mail,
    NoticeSettings,
    StatementReady,
    Told,
    ToldBudget,
    UnusualHour,
    WebhookMessage,
    WebhookTarget,
)
from pipeline.accounts.payments import Dispute, NamedCredit, Order, Payment, Refund, Stray
from pipeline.formats import StoredFormat
from pipeline.gateway.sending.spool import Identity
from pipeline.mail.outbox import Outbox, Waiting
from pipeline.mirror.progress import MirroredPlace, MirrorHead
from pipeline.posting.answers import StoredAnswer
from pipeline.posting.state import Meta
from pipeline.sink.ranges import Intent, RangePart, RebuildHold
from pipeline.token_book import TokenRecord
from pipeline.webhook.waiting import WaitingMessage, WebhookProgress

NOTICE_FIELDS: dict[type[Struct], str] = {
    LowBalance: "balance_nano threshold_nano",
    BudgetReached: "key_id key_name month percent budget_nano spent_nano",
    StatementReady: "month",
    UnusualHour: "hour_ms cost_nano usual_nano key_id key_name model",
}
MAIL_FIELDS: dict[type[Struct], str] = {
    Mail: "id org to org_name at_ms about",
    **NOTICE_FIELDS,
}
WEBHOOK_FIELDS: dict[type[Struct], str] = {WebhookMessage: "id org url nonce at_ms about", **NOTICE_FIELDS}
FIELDS: dict[StoredFormat, tuple[int, dict[type[Struct], str]]] = {
    formats.STATE: (
        5,
        {
            Meta: "partitions format position posted_ms offsets swept_day topic_ids",
            _StoredSpending: "credited_nano debited_nano keys verdict_nano verdict_refused entry_id is_below alerted_ms"
            " watched trial_days",
            _StoredProfile: "name email signed_up_ms keys answers address threshold_nano redeemed unpaid"
            " notices",
            NoticeSettings: "mail budget_reached webhook statement_ready unusual_hour",
            WebhookTarget: "url nonce",
            Told: "budgets month unusual_ms",
            ToldBudget: "month near_nano spent_nano",
            _StoredKey: "key_id name prefix hash tier created_ms budget_nano daily_limit rpm_limit expires_ms revoked"
            " version",
            KeyUsage: "months days trial",
            Refused: "key_id code from_ms until_ms limit used",
            Watched: "threshold_nano limits",
            RememberedAnswer: "command_id fingerprint at_ms result",
            StoredAnswer: "at_ms fingerprint result",
            Address: "name line1 line2 city state pin gstin",
            Order: "order_id org amount_paise created_ms promo_code bonus_nano paid_by",
            Payment: "payment_id order_id org status amount_paise currency method email contact paid_ms payer address"
            " refunded_paise problem credited_paise disputed_paise corrected_paise open_disputes",
            Refund: "refund_id payment_id org status amount_paise problem",
            Dispute: "dispute_id payment_id org status amount_paise deducted_paise counted_paise problem",
            NamedCredit: "command_id org fingerprint balance_nano",
            Stray: "payment_id order_id amount_paise currency",
        },
    ),
    formats.TOKENS: (
        1,
        {
            TokenRecord: "id org name prefix hash nonce fingerprint created_ms expires_ms revoked_ms signature",
        },
    ),
    formats.MAIL: (2, MAIL_FIELDS),
    formats.OUTBOX: (
        3,
        {Outbox: "next_offset waiting topic_id", Waiting: "mail came_ms tries due_ms", **MAIL_FIELDS},
    ),
    formats.WEBHOOKS: (1, WEBHOOK_FIELDS),
    formats.WEBHOOK_PROGRESS: (
        1,
        {
            WebhookProgress: "next_offset topic_id",
            WaitingMessage: "message came_ms tries due_ms",
            **WEBHOOK_FIELDS,
        },
    ),
    formats.RANGES: (
        3,
        {
            Intent: "first_offset next_offset at_ms parts topic_id deployment epoch position",
            RebuildHold: "work at_ms epoch",
            RangePart: "kind first last rows",
        },
    ),
    formats.MIRROR: (
        1,
        {
            MirrorHead: "source source_ids as_of_ms positions journal is_whole is_promoted",
            MirroredPlace: "next_offset runs",
        },
    ),
    formats.SPOOL: (1, {Identity: "spool started partitions"}),
}
"""The fields of each kind, by the format that has them. Whoever changes one changes the format too: ADR 8 says why."""


@pytest.mark.parametrize("stored", FIELDS, ids=lambda stored: stored.name)
def test_other_fields_are_another_format(stored: StoredFormat) -> None:
    number, fields = FIELDS[stored]
    found = {of: " ".join(of.__struct_fields__) for of in fields}
    assert (stored.number, found) == (number, fields), (
        "a field that came or went needs a new number, and a way forward"
    )


def test_every_kind_that_is_written_back_is_looked_at() -> None:
    assert FIELDS.keys() == {stored for stored in formats.ALL if stored.rewritten}
