"""A refusal: the code, the HTTP status and when to try again, ready to be sent to the caller.

Owns: the documented codes of gateways with their statuses, messages and JSON form.
Called by: `gateway/admission/admission.py`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec
from msgspec import Struct

from pipeline import ist
from pipeline.accounts.model import Refused
from pipeline.money import format_inr

INSUFFICIENT_CREDITS = "insufficient_credits"
BUDGET_EXCEEDED = "budget_exceeded"
DAILY_LIMIT_REACHED = "daily_limit_reached"
RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
INVALID_API_KEY = "invalid_api_key"
UNAVAILABLE = "unavailable"

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Refusal(Struct, frozen=True):
    """Why a request may not be served.

    `retry_after` is in whole seconds, at least 1, or None where waiting does not help. Amounts are
    rupees, exact. `resets_at` is ISO 8601 in IST, None where nothing lifts the refusal by itself.
    """

    code: str
    http_status: int
    retry_after: int | None = None
    message: str = ""
    limit_inr: Decimal | None = None
    spent_inr: Decimal | None = None
    resets_at: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers to answer with, beside the body's."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def body(self) -> bytes:
        """Return the JSON error envelope to answer with."""
        error: dict[str, object] = {
            "message": self.message,
            "type": _TYPES[self.http_status],
            "code": self.code,
        }
        for name in ("limit_inr", "spent_inr", "resets_at"):
            value = getattr(self, name)
            if value is not None:
                error[name] = value
        return _encode({"error": error})


NO_CREDITS = Refusal(INSUFFICIENT_CREDITS, 402, message="the balance is used up; add credits to go on")
NOT_ENOUGH_CREDITS = Refusal(
    INSUFFICIENT_CREDITS, 402, message="the balance does not cover what this request may cost"
)
KEY_REVOKED = Refusal(INVALID_API_KEY, 401, message="this API key was revoked")
KEY_EXPIRED = Refusal(INVALID_API_KEY, 401, message="this API key has expired")
STALE = Refusal(UNAVAILABLE, 503, retry_after=1, message="credits cannot be checked right now; try again")


def seconds_until(at_ms: int, now_ms: int) -> int:
    """Return the whole seconds to wait for an instant, at least 1."""
    return max(1, -((now_ms - at_ms) // 1000))


def retry_ms(window: Refused, now_ms: int) -> int:
    """Return when it is worth asking again: at the window's end, or the month's where that is earlier."""
    return min(window.until_ms, _month_end_ms(ist.month_of(now_ms)))


def changes_ms(window: Refused, now_ms: int) -> int:
    """Return until when the refusal of a window is worded as it is now: its `retry_after` counts down."""
    at_ms = retry_ms(window, now_ms)
    return at_ms - (seconds_until(at_ms, now_ms) - 1) * 1000


def of_window(window: Refused, now_ms: int) -> Refusal:
    """Return the refusal of a key that is refused for a window which holds now."""
    at_ms = retry_ms(window, now_ms)
    words = _words(window, by_itself=at_ms == window.until_ms)
    return Refusal(
        window.code,
        429,
        seconds_until(at_ms, now_ms),
        words.message,
        words.limit_inr,
        words.spent_inr,
        words.resets_at,
    )


@lru_cache(maxsize=8192)
def _words(window: Refused, *, by_itself: bool) -> Refusal:
    """Return a window's refusal but for its `retry_after`; `by_itself` it ends with the window."""
    resets_at = ist.isoformat(window.until_ms) if by_itself else None
    if window.code == BUDGET_EXCEEDED:
        return Refusal(
            BUDGET_EXCEEDED,
            429,
            message="the key's monthly budget is spent",
            limit_inr=Decimal(format_inr(window.limit)),
            spent_inr=Decimal(format_inr(window.used)),
            resets_at=resets_at,
        )
    message = f"the key's {window.limit} requests of this IST day are used up"
    return Refusal(window.code, 429, message=message, resets_at=resets_at)


_month_end_ms = lru_cache(maxsize=16)(ist.month_end_ms)


def of_rate(limit: int, wait_s: int) -> Refusal:
    """Return the refusal of a key that made all its requests of a minute."""
    return Refusal(RATE_LIMIT_EXCEEDED, 429, max(1, wait_s), f"the key may make {limit} requests a minute")
