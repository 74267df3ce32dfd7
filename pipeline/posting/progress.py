"""When gateways are told up to which request a partition's verdicts count.

Owns: how often that record is written, and that the last word is always told.
Called by: `posting/unit.py` at the end of a unit; `posting/protocol.py` where no unit follows for a while.
Next: `gateway/admission/holds.py`, across Kafka, lets go of what it held for those requests.

A gateway that starts reads everything that is on `metering.verdicts`, and one record a unit would soon be nearly
all of it. Beside a verdict the record costs nothing more. Alone it can wait: until then a gateway holds back a
little more of the balances than it must, of orgs whose verdict need not be told.
"""

from __future__ import annotations

from pipeline.accounts import verdicts
from pipeline.accounts.verdicts import PROGRESS_KEY, VerdictProgress
from pipeline.posting.state import PartitionState
from pipeline.topics import REQUESTS

ALONE_EVERY_MS = 500
"""The least time of posting between two records of progress that are written beside no verdict."""


def is_due(state: PartitionState) -> bool:
    """Return whether gateways have not been told how far the verdicts count now."""
    return _offset(state) != state.progress_told


def record(state: PartitionState, *, beside_verdicts: bool) -> list[tuple[bytes, bytes]]:
    """Return the record to write now, key and value, and note that it is told; nothing where it can wait.

    `beside_verdicts` says that others go to the same topic anyway, or that it has waited long enough.
    """
    if not is_due(state):
        return []
    waited_ms = state.meta.posted_ms - state.progress_told_ms
    if not beside_verdicts and state.progress_told is not None and waited_ms < ALONE_EVERY_MS:
        return []
    state.progress_told, state.progress_told_ms = _offset(state), state.meta.posted_ms
    return [(PROGRESS_KEY, verdicts.encode(VerdictProgress(state.partition, _offset(state))))]


def _offset(state: PartitionState) -> int:
    return state.meta.offsets.get(REQUESTS, 0)
