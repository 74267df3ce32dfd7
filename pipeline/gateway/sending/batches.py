"""Group events into records: CloudEvents batches, one partition each, in the order of the spool.

Owns: what goes into one Kafka record.
Called by: `gateway/sending/sender.py`. Pure.

Within a partition the order of the spool is kept, over records too: the worker takes a number at or
below the last one of its source for a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.gateway.sending.entry import SpoolEntry
from pipeline.partitioning import partition_of

ORGS_REMEMBERED = 100_000


class Partitions:
    """Finds the partition of an org, remembering the answers, which are costly to compute."""

    def __init__(self, count: int) -> None:
        """Answer for a topic of `count` partitions."""
        self.count = count
        self._known: dict[str, int] = {}

    def __call__(self, org: str) -> int:
        """Return the partition of an org."""
        partition = self._known.get(org)
        if partition is None:
            if len(self._known) >= ORGS_REMEMBERED:
                self._known.clear()
            partition = self._known[org] = partition_of(org, self.count)
        return partition


@dataclass(slots=True)
class Record:
    """One record to send: its events, all of one partition. The key is the first one's org."""

    partition: int
    entries: list[SpoolEntry] = field(default_factory=list)
    size: int = 2

    @property
    def key(self) -> bytes:
        """The record's key."""
        return self.entries[0].org.encode()

    def value(self) -> bytes:
        """Return the record's value: an event, or an array of them."""
        if len(self.entries) == 1:
            return self.entries[0].event
        return b"[" + b",".join([entry.event for entry in self.entries]) + b"]"


def lanes(
    entries: Sequence[SpoolEntry], partition: Callable[[str], int], bytes_max: int
) -> dict[int, list[Record]]:
    """Return the records of each partition, in the order to send them.

    A record holds at most `bytes_max` bytes, or a single event that is larger.
    """
    found: dict[int, list[Record]] = {}
    for entry in entries:
        number = partition(entry.org)
        records = found.get(number)
        size = len(entry.event) + 1
        if records is None:
            records = found[number] = [Record(number)]
        elif records[-1].size + size > bytes_max:
            records.append(Record(number))
        records[-1].entries.append(entry)
        records[-1].size += size
    return found
