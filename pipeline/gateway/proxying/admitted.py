"""A request that was admitted, on its way to its one event.

Owns: what is known of it meanwhile, and the event that is made of it.
Called by: `gateway/litellm.py`, `gateway/proxying/meter.py`. Pure: the clocks are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pipeline import ist

NAME_MAX = 256
CLIENT_CLOSED = "client_closed"


class Caller(Struct, frozen=True):
    """Whose request it is, as the key says."""

    org: str
    key_id: str
    tier: str


class Outcome(Struct, frozen=True):
    """How a request ended.

    `model` and `provider` are the route that served it, or was tried last; `usage` is the event's.
    """

    status: int
    model: str
    provider: str | None
    usage: Mapping[str, Any] | None = None
    error_code: str | None = None


class AdmittedRequest(Struct):
    """A request that was admitted. `request_id` names its reservation and its event: it is charged once.

    `started_ns` and `first_ns`, when the first part of a stream came, are of a monotonic clock.
    """

    request_id: str
    caller: Caller
    stream: bool
    started_ns: int
    first_ns: int | None = None

    def event(self, outcome: Outcome, now_ms: int, now_ns: int) -> dict[str, Any]:
        """Return the event of this request, which ended at `now_ms`; `now_ns` is the same on the monotonic clock."""
        return {
            "id": self.request_id,
            "subject": self.caller.org,
            "time": ist.isoformat(now_ms),
            "data": {
                "key_id": self.caller.key_id,
                "tier": self.caller.tier,
                "byok": False,
                "model": outcome.model[:NAME_MAX],
                "provider": outcome.provider[:NAME_MAX] if outcome.provider else None,
                "status": outcome.status,
                "error_code": outcome.error_code[:NAME_MAX] if outcome.error_code else None,
                "latency_ms": (now_ns - self.started_ns) // 1_000_000,
                "ttft_ms": None if self.first_ns is None else (self.first_ns - self.started_ns) // 1_000_000,
                "stream": self.stream,
                "usage": outcome.usage,
            },
        }
