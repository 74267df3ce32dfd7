"""Read a record: its valid events, and the bytes each came as.

Owns: that a bad element becomes a dead letter without its neighbours, at a cost that rises with the
record's size and no faster.
Called by: `posting/requests.py`. Next: `events.py` decodes.
"""

from __future__ import annotations

from pipeline.events import Rejected, RequestEvent, decode_record, elements_of, split_record
from pipeline.posting.unit import InputRecord, Unit


class Reading:
    """The valid events of a record."""

    __slots__ = ("_by_identity", "_elements", "_value", "events")

    def __init__(self, value: bytes, events: list[RequestEvent], elements: list[bytes] | None = None) -> None:
        """Hold the events; `elements` are the bytes of each, where they are known already."""
        self.events = events
        self._value, self._elements = value, elements
        self._by_identity: dict[int, bytes] | None = None

    def bytes_of(self, event: RequestEvent) -> bytes:
        """Return the bytes that one of `events` came as, looking for all of them the first time."""
        if self._by_identity is None:
            elements = self._elements if self._elements is not None else elements_of(self._value)
            pairs = zip(self.events, elements or (), strict=True)
            self._by_identity = {id(found): element for found, element in pairs}
        return self._by_identity[id(event)]


def read_events(unit: Unit, record: InputRecord) -> Reading:
    """Return the valid events of a record, count all, and send the others to the dead letters."""
    value = record.value or b""
    events = decode_record(value)
    if events is not None:
        unit.counts["events"] += len(events)
        return Reading(value, events)
    valid, came_as = [], []
    for part, element in split_record(value):
        unit.counts["events"] += 1
        if isinstance(element, Rejected):
            unit.reject(record, part, element.reason, element.detail)
        else:
            valid.append(element)
            came_as.append(part)
    return Reading(value, valid, came_as)
