"""Duplicates that differ from what they are duplicates of: another event is dropped under the name of a charged one.

Owns: what a duplicate is compared with, and what is said of it. It decides nothing: a duplicate is dropped either way.
Called by: `posting/unit.py`, for each duplicate that is met.

A charged event leaves nothing behind but its number or its mark, as more would cost a microsecond for each event
there is. So what came last is kept as it came, in memory alone, and looked through when a duplicate turns up. What is
not found there is compared by its number only: one under which nothing was charged is a number that fell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile

from msgspec import Struct

from pipeline.events import RequestEvent, split_record
from pipeline.outcomes import DuplicateKind
from pipeline.posting.duplicates import RecentNumbers

KEPT_BYTES = 8 * 1024 * 1024
"""Of a partition: the last 13,000 events or so."""
LOOKS_A_UNIT = 10
"""How many duplicates of a unit are compared: each may take some milliseconds, and a batch may be sent anew whole."""


class DifferingDuplicate(Struct, frozen=True):
    """A duplicate that is not what was charged: how it differs, and its name."""

    kind: DuplicateKind
    source: str
    id: str


class RecentRecords:
    """The values of the last records of requests, as they came."""

    def __init__(self) -> None:
        """Start with none."""
        self._values: deque[bytes] = deque()
        self._bytes = 0

    def add(self, value: bytes | None) -> None:
        """Keep a record's value, and let the oldest go."""
        if value is None or len(value) > KEPT_BYTES:
            return
        self._values.append(value)
        self._bytes += len(value)
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._values.popleft())

    def events_with(self, text: str) -> Iterator[RequestEvent]:
        """Return the events of the records in which a text occurs, the oldest first."""
        wanted = text.encode()
        for value in self._values:
            if wanted in value:
                yield from (event for _, event in split_record(value) if isinstance(event, RequestEvent))


def _before(event: RequestEvent, beside: Sequence[RequestEvent]) -> Iterator[RequestEvent]:
    """Return the events of a record that come before one of them."""
    return takewhile(lambda other: other is not event, beside)


def difference(
    recent: RecentRecords,
    numbers: RecentNumbers,
    event: RequestEvent,
    number: int,
    *,
    beside: Sequence[RequestEvent],
    in_hand: Sequence[int],
) -> DuplicateKind | None:
    """Return how a duplicate differs from what was charged, None where it does not or nobody can tell.

    `number` is -1 for an event whose number says nothing; `beside` are the events of its record, which is not among
    the recent ones yet, and `in_hand` the numbers of its source that `numbers` does not know yet.
    """
    for charged in chain(recent.events_with(event.id), _before(event, beside)):
        if (charged.source, charged.id) == (event.source, event.id):
            if charged.subject != event.subject:
                return DuplicateKind.OTHER_ORG
            return None if charged.data == event.data else DuplicateKind.OTHER_CONTENT
    if number < 0:
        return None
    for charged in chain(recent.events_with(event.sequence or ""), _before(event, beside)):
        if charged.source == event.source and charged.sequence == event.sequence:
            return DuplicateKind.NUMBER_FELL
    was_charged = number in in_hand or numbers.knows(event.source, number)
    return None if was_charged else DuplicateKind.NUMBER_FELL
