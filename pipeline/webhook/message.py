"""What a webhook carries: its record on `metering.webhooks`, and the JSON that its receiver gets.

Owns: how a record is read, the types of messages, and the JSON of each notice. Pure.
Called by: `webhook/protocol.py` and `webhook/sending.py`. Its record's shape is in `accounts/notices.py`.

The JSON is `{"type", "timestamp", "data"}`, as the Standard Webhooks specification recommends. Amounts are rupees, as
numbers written from the integer, exact to nine decimals; times are ISO 8601 in IST.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from pipeline import ist
from pipeline.accounts.notices import (
    BudgetReached,
    LowBalance,
    Notice,
    StatementReady,
    UnusualHour,
    WebhookMessage,
)
from pipeline.formats import WEBHOOKS
from pipeline.money import format_inr

_encode = msgspec.json.Encoder().encode
_decode = WEBHOOKS.decoder(WebhookMessage)


class NoMessageError(ValueError):
    """Bytes that are no message."""


def decode(value: bytes | None) -> WebhookMessage:
    """Return the message of a record's value. Raises NoMessageError, and NewerFormatError where a newer release wrote it."""
    try:
        return _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The error's text may quote the record, and a URL may hold a secret.
        raise NoMessageError(type(error).__name__) from None


def body_of(message: WebhookMessage) -> bytes:
    """Return what is sent: the same bytes at every attempt."""
    kind, data = _told(message.about)
    return _encode(
        {"type": kind, "timestamp": ist.isoformat(message.at_ms), "data": {"org": message.org, **data}}
    )


def _told(notice: Notice) -> tuple[str, dict[str, object]]:
    """Return the type and the data of a notice."""
    match notice:
        case LowBalance():
            return "balance.low", {
                "balance_inr": _rupees(notice.balance_nano),
                "threshold_inr": _rupees(notice.threshold_nano),
            }
        case BudgetReached():
            return "budget.reached", {
                "key_id": notice.key_id,
                "key_name": notice.key_name,
                "month": month_of(notice.month),
                "percent": notice.percent,
                "budget_inr": _rupees(notice.budget_nano),
                "spent_inr": _rupees(notice.spent_nano),
            }
        case StatementReady():
            return "statement.ready", {"month": month_of(notice.month)}
        case UnusualHour():
            return "hour.unusual", {
                "from": ist.isoformat(notice.hour_ms),
                "cost_inr": _rupees(notice.cost_nano),
                "usual_inr": _rupees(notice.usual_nano),
                "key_id": notice.key_id,
                "key_name": notice.key_name,
                "model": notice.model,
            }
    assert_never(notice)


def month_of(month: int) -> str:
    """Return an IST month, such as 202611, as the API writes it: 2026-11."""
    return f"{month // 100:04d}-{month % 100:02d}"


def _rupees(amount_nano: int) -> msgspec.Raw:
    return msgspec.Raw(format_inr(amount_nano).encode())
