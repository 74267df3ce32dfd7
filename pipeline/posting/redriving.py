"""Which dead letters can be charged now.

Owns: the decision for one letter. Pure.
Called by: `operations/redrive.py`, which reads the letters and publishes those to `metering.moved`.
"""

from __future__ import annotations

from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.events import RequestEvent, Timestamps, decode_element
from pipeline.posting.unit import AHEAD_MS

UNPRICED, FROM_THE_FUTURE, TOO_LATE = "unpriced", "from_the_future", "too_late"

_timestamps = Timestamps()


def chargeable(
    value: bytes, reason: str, rates: RateTable, now_ms: int, *, too_late: bool
) -> RequestEvent | None:
    """Return the event of a dead letter that can be charged now, None for one that has to stay.

    An unpriced one can when its route has a rate for its time; one from the future when its time has come;
    one that came too late only when the operator says so, as nothing remembers whether it was charged
    before. Malformed and invalid ones never can.
    """
    if reason not in (UNPRICED, FROM_THE_FUTURE, TOO_LATE) or (reason == TOO_LATE and not too_late):
        return None
    event = decode_element(value)
    if not isinstance(event, RequestEvent):
        return None
    at_ms = _timestamps.ms(event.time)
    if at_ms is None or at_ms > now_ms + AHEAD_MS:
        return None
    data = event.data
    if not is_free(data) and rates.in_force(data.model, data.provider or "", at_ms) is None:
        return None
    return event
