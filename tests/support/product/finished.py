"""One finished request, as a gateway publishes it, and what it costs. Called by: tests/product."""

from __future__ import annotations

import time
from typing import Any

COST_INR = 0.0075
"""200 prompt tokens, 64 of them cached, and 112 completion tokens of krutrim-2 at krutrim."""


def finished(org: str, event_id: str, **changes: Any) -> dict[str, Any]:
    """Return the event of a request that is over now, with `changes` in its data."""
    data = {
        "key_id": f"{org}-key",
        "tier": "standard",
        "byok": False,
        "model": "krutrim-2",
        "provider": "krutrim",
        "status": 200,
        "latency_ms": 740,
        "usage": {
            "prompt_tokens": 200,
            "completion_tokens": 112,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
        **changes,
    }
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "specversion": "1.0",
        "type": "bharatrouter.request.completed.v1",
        "source": "gateway/test",
        "id": event_id,
        "subject": org,
        "time": now,
        "data": data,
    }
