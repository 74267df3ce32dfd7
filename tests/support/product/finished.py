"""One finished request, as a gateway publishes it, and what it costs. Called by: tests/product."""

from __future__ import annotations

import time
from typing import Any

from tests.support.builders import event, time_text

COST_INR = 0.0075
"""200 prompt tokens, 64 of them cached, and 112 completion tokens of krutrim-2 at krutrim."""


def finished(org: str, event_id: str, **changes: Any) -> dict[str, Any]:
    """Return the event of a request that is over now, with `changes` in its data."""
    data = {f"data__{name}": value for name, value in ({"key_id": f"{org}-key"} | changes).items()}
    now = time_text(int(time.time() * 1000))
    return event(event_id, source="gateway/test", subject=org, time=now, **data)
