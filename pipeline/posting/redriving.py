"""Which dead letters can be charged now.

Owns: the decision for one letter. Pure.
Called by: `operations/redrive.py`, which reads the letters and publishes those to `metering.moved`.
"""

from __future__ import annotations

from typing import assert_never

from pipeline.catalog.rates import RateTable
from pipeline.catalog.rating import is_free
from pipeline.events import RequestEvent, Timestamps, decode_element
from pipeline.outcomes import DeadLetterReason
from pipeline.posting.unit import AHEAD_MS

_timestamps = Timestamps()


def chargeable(
    value: bytes, reason: str, rates: RateTable, now_ms: int, *, too_late: bool
) -> RequestEvent | None:
    """Return the event of a dead letter that can be charged now, None for one that has to stay.

    An unpriced one can when its route has a rate for its time; one from the future when its time has come;
    one that came too late only when the operator says so, as nothing remembers whether it was charged
    before. Malformed and invalid ones never can, nor one whose reason only a newer worker knows.
    """
    if not _may_be_redriven(DeadLetterReason.named(reason), too_late=too_late):
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


def _may_be_redriven(reason: DeadLetterReason | None, *, too_late: bool) -> bool:
    match reason:
        case DeadLetterReason.UNPRICED | DeadLetterReason.FROM_THE_FUTURE:
            return True
        case DeadLetterReason.TOO_LATE:
            return too_late
        case DeadLetterReason.MALFORMED | DeadLetterReason.INVALID | None:
            return False
    assert_never(reason)
