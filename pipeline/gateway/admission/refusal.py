"""A refusal: the code, the HTTP status and when to try again, ready to be sent to the caller.

Owns: the wording of each refusal of a gateway and its JSON form. Codes and statuses: `outcomes.py`.
Called by: `gateway/admission/admission.py`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import assert_never

import msgspec
from msgspec import Struct, structs

from pipeline import ist
from pipeline.accounts.model import Refused
from pipeline.money import format_inr
from pipeline.outcomes import KeyRefusal, RefusalCode, Status

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Refusal(Struct, frozen=True):
    """Why a request may not be served.

    `retry_after` is in whole seconds, at least 1, or None where waiting does not help. Amounts are
    rupees, exact. `resets_at` is ISO 8601 in IST, None where nothing lifts the refusal by itself.
    """

    code: RefusalCode
    http_status: Status
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
            "type": self.code.type,
            "code": self.code,
        }
        for name in ("limit_inr", "spent_inr", "resets_at"):
            value = getattr(self, name)
            if value is not None:
                error[name] = value
        return _encode({"error": error})


def refuse(code: RefusalCode, message: str = "", retry_after: int | None = None) -> Refusal:
    """Return a refusal with its code's HTTP status, and with the code's own wording where no other is given."""
    return Refusal(code, code.status, retry_after, message or code.wording)


NO_CREDITS = refuse(RefusalCode.INSUFFICIENT_CREDITS)
NOT_ENOUGH_CREDITS = refuse(
    RefusalCode.INSUFFICIENT_CREDITS, "the balance does not cover what this request may cost"
)
KEY_REVOKED = refuse(RefusalCode.INVALID_API_KEY, "this API key was revoked")
KEY_EXPIRED = refuse(RefusalCode.INVALID_API_KEY, "this API key has expired")
STALE = refuse(RefusalCode.UNAVAILABLE, "credits cannot be checked right now; try again", retry_after=1)


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
    words = _words(window, at_ms)
    return structs.replace(words, retry_after=seconds_until(at_ms, now_ms))


@lru_cache(maxsize=8192)
def _words(window: Refused, at_ms: int) -> Refusal:
    """Return a window's refusal but for its `retry_after`; `at_ms` is when asking again is worth it.

    What was spent counts from zero again when the IST month turns, also where the budget is 0 and the refusal stays.
    """
    resets_at = ist.isoformat(at_ms) if at_ms == window.until_ms else None
    code = window.code.code
    match window.code:
        case KeyRefusal.BUDGET_EXCEEDED:
            return structs.replace(
                refuse(code),
                limit_inr=Decimal(format_inr(window.limit)),
                spent_inr=Decimal(format_inr(window.used)),
                resets_at=ist.isoformat(at_ms),
            )
        case KeyRefusal.DAILY_LIMIT_REACHED:
            message = f"the key's {window.limit} requests of this IST day are used up"
            return structs.replace(refuse(code, message), resets_at=resets_at)
        case KeyRefusal.UNKNOWN:
            return structs.replace(refuse(code), resets_at=resets_at)
    assert_never(window.code)


_month_end_ms = lru_cache(maxsize=16)(ist.month_end_ms)


def of_rate(limit: int, wait_s: int) -> Refusal:
    """Return the refusal of a key that made all its requests of a minute."""
    message = f"the key may make {limit} requests a minute"
    return refuse(RefusalCode.RATE_LIMIT_EXCEEDED, message, retry_after=max(1, wait_s))
