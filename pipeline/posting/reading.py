"""Read a record element by element: the slow way, for the few records that need it.

Most records are decoded whole (`events.py:decode_record`). This is for a record of which some element is no
valid event, and for the bytes of a single event, which a dead letter or a moved event has to carry on.

Owns: that a bad element becomes a dead letter while its neighbours are charged, in time proportional to the
record's size.
Called by: `posting/requests.py`. Next: `events.py` decodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.events import Rejected, RequestEvent, elements_of, split_record
from pipeline.posting.unit import InputRecord, Unit


class Readings:
    """The events of a record and the bytes of each, for one record at a time."""

    def __init__(self, unit: Unit) -> None:
        """Start with no record; `unit` takes the dead letters."""
        self._unit = unit
        self._record: InputRecord | None = None
        self._by_identity: dict[int, bytes] = {}

    def valid_events(self, record: InputRecord) -> list[RequestEvent]:
        """Return the valid events of a record; its other elements are counted and become dead letters."""
        valid, came_as = [], []
        for part, element in split_record(record.value):
            if isinstance(element, Rejected):
                self._unit.counts["events"] += 1
                self._unit.reject(record, part, element.reason, element.detail)
            else:
                valid.append(element)
                came_as.append(part)
        self._keep(record, valid, came_as)
        return valid

    def bytes_of(self, record: InputRecord, events: Sequence[RequestEvent], event: RequestEvent) -> bytes:
        """Return the bytes of one of a record's events; the first call for a record finds those of all its events."""
        if self._record is not record:
            self._keep(record, events, elements_of(record.value or b"") or ())
        return self._by_identity[id(event)]

    def _keep(self, record: InputRecord, events: Sequence[RequestEvent], elements: Sequence[bytes]) -> None:
        self._record = record
        pairs = zip(events, elements, strict=True)
        self._by_identity = {id(event): element for event, element in pairs}
