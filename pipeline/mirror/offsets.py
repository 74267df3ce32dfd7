"""Where a record of the first cluster is on the second one: offsets differ, and state holds offsets.

Owns: `OffsetMap`, one for each partition whose offsets somebody keeps. Pure.
Called by: `mirror/progress.py` keeps it, `mirror/records.py` translates by it.

Brokers give offsets themselves. On the first cluster markers of transactions, aborted records and what retention has
deleted take offsets that the copy does not have, and the copy has markers of its own. So records are copied in runs:
while nothing but records comes, both offsets rise by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple


class Run(NamedTuple):
    """`length` records, the first at the offset `source` of the first cluster and at `target` of the second."""

    source: int
    target: int
    length: int


class OffsetMap:
    """Where the copied records of one partition are. Records are added in their order."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """Take the runs that were kept, in their order."""
        self.runs = list(runs)

    def add(self, source: int, target: int) -> None:
        """Note that the record at an offset was copied to another."""
        if self.runs:
            run = self.runs[-1]
            if (source, target) == (run.source + run.length, run.target + run.length):
                self.runs[-1] = run._replace(length=run.length + 1)
                return
        self.runs.append(Run(source, target, 1))

    def next_offset(self, source: int) -> int:
        """Return from where the second cluster is read on, by who would read the first on from `source`.

        That is the first copied record at or after `source`, or where the next one will come at the least.
        """
        at = self._last_run_from(source)
        if at < 0:
            return self.runs[0].target if self.runs else 0
        run = self.runs[at]
        if source < run.source + run.length:
            return run.target + source - run.source
        return self.runs[at + 1].target if at + 1 < len(self.runs) else run.target + run.length

    def exactly(self, source: int) -> int | None:
        """Return where the record at `source` is, None where it was not copied."""
        at = self._last_run_from(source)
        if at < 0 or source >= self.runs[at].source + self.runs[at].length:
            return None
        return self.runs[at].target + source - self.runs[at].source

    def forget_before(self, source: int) -> None:
        """Forget the runs that whoever reads on from `source` or later needs no more."""
        self.runs = self.runs[max(self._last_run_from(source), 0) :]

    def _last_run_from(self, source: int) -> int:
        """Return the index of the last run that begins at or before `source`, -1 where none does."""
        return bisect_right(self.runs, source, key=lambda run: run.source) - 1
