"""Named places between the numbered steps where a test may end the process as SIGKILL would.

Owns: the names, and reading METERING_CRASH_AT once: `name` or `name:N`, the Nth time it is reached.
Called by: `worker/partition.py`, `sink/partition.py`, `sink/rebuild.py`, `operations/rebuild_state.py`, `notary/notary.py`, `kafka/fenced.py`. Nothing happens unless it is set.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "worker.fenced",
    "worker.restored",
    "worker.decided",
    "worker.sent",
    "worker.committed",
    "sink.fenced",
    "sink.sent",
    "sink.recorded",
    "sink.inserted",
    "rebuild.holding",
    "rebuild.held",
    "rebuild.emptied",
    "rebuild.replaced",
    "rebuild.made",
    "rebuild.releasing",
    "rebuild.released",
    "state.held",
    "state.folded",
    "state.writing",
    "state.made",
    "notary.fenced",
    "notary.sent",
    "notary.written",
    "notary.signed",
)
"""Between each two steps of taking a partition over, of a unit of work, of a range of the sink, of the rebuilds: of the
database (`rebuild`), and of the workers' state (`state`), and of a day that the notary signs."""

_wanted, _, _count = os.environ.get("METERING_CRASH_AT", "").partition(":")
_left = [int(_count) if _count.isdecimal() else 1]


def reach(point: str) -> None:
    """Go on, or end the process here where a test asked for it."""
    if point == _wanted:
        _left[0] -= 1
        if _left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
