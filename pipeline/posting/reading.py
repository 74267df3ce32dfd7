"""Take a record apart that the fast decoder refuses, and find the bytes of one of a record's events.

Owns: that each element of a record that is no valid event becomes a dead letter, while the valid ones beside
it are charged. The cost rises with the record's size, not with the number of bad elements times the size.
Called by: `posting/requests.py`, for records with a bad element and for events that become dead letters or are
moved to another partition. Next: `events.py` decodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.events import Rejected, RequestEvent, elements_of, split_record
from pipeline.posting.unit import InputRecord, Unit


class RecordParts:
    """The parts of one record: each of its valid events with the bytes it was sent as."""

    def __init__(self, unit: Unit) -> None:
        """Start without a record. Dead letters go to `unit`."""
        self._unit = unit
        self._record: InputRecord | None = None
        self._by_identity: dict[int, bytes] = {}

    def valid_events(self, record: InputRecord) -> list[RequestEvent]:
        """Return the valid events of a record. Its other elements are counted and become dead letters."""
        valid, parts = [], []
        for part, element in split_record(record.value):
            if isinstance(element, Rejected):
                self._unit.counts["events"] += 1
                self._unit.reject(record, part, element.reason, element.detail)
            else:
                valid.append(element)
                parts.append(part)
        self._remember(record, valid, parts)
        return valid

    def bytes_of(self, record: InputRecord, events: Sequence[RequestEvent], event: RequestEvent) -> bytes:
        """Return the bytes that `event`, one of the record's `events`, was sent as.

        The first call for a record splits all of it, later ones look the bytes up.
        """
        if self._record is not record:
            self._remember(record, events, elements_of(record.value or b"") or ())
        return self._by_identity[id(event)]

    def _remember(
        self, record: InputRecord, events: Sequence[RequestEvent], elements: Sequence[bytes]
    ) -> None:
        self._record = record
        pairs = zip(events, elements, strict=True)
        self._by_identity = {id(event): element for event, element in pairs}
