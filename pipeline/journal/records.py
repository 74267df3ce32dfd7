"""Records of the journal: rows on their way into Kafka, and what a record's headers tell.

Owns: how many rows a record holds, how they become its bytes, and rows again.
Called by: `posting/unit.py` writes; `sink/` reads headers; `operations/audit.py` reads rows.

A record's value is JSONCompactEachRow: one JSON array a line, in the order of the columns of `journal/rows.py`.
Its headers `kind`, `first` and `last` tell which rows it holds: positions within the partition, which rise
by one a row over both kinds together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pipeline.journal.rows import ROW_TYPES, Row, position_of

ROWS_A_RECORD = 1_000
RECORD_BYTES_MAX = 8 * 1024 * 1024
"""Half of what the topic takes: the rows of one record may have come in several large ones."""


class JournalRecord(msgspec.Struct, frozen=True):
    """One record of the journal: rows of one kind at positions `first` to `last` of their partition."""

    kind: str
    first: int
    last: int
    value: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the record's Kafka headers."""
        return [
            ("kind", self.kind.encode()),
            ("first", str(self.first).encode()),
            ("last", str(self.last).encode()),
        ]


_encode_rows = msgspec.json.Encoder().encode_lines
_decoders = {kind: msgspec.json.Decoder(row).decode_lines for kind, row in ROW_TYPES.items()}


def encode_rows(kind: str, rows: Sequence[Row]) -> list[JournalRecord]:
    """Return the records that hold the rows, which are of one kind and have rising ids of one partition."""
    records: list[JournalRecord] = []
    for start in range(0, len(rows), ROWS_A_RECORD):
        records += _records(kind, rows[start : start + ROWS_A_RECORD])
    return records


def _records(kind: str, rows: Sequence[Row]) -> list[JournalRecord]:
    """Return one record, or where its rows are so long that Kafka would refuse it, several."""
    value = _encode_rows(rows)
    if len(value) > RECORD_BYTES_MAX and len(rows) > 1:
        middle = len(rows) // 2
        return _records(kind, rows[:middle]) + _records(kind, rows[middle:])
    return [JournalRecord(kind, position_of(rows[0].id)[1], position_of(rows[-1].id)[1], value)]


def decode_rows(record: JournalRecord) -> list[Row]:
    """Return the rows of a record. Raises KeyError for an unknown kind, msgspec.MsgspecError for other bytes."""
    return decode_payload(record.kind, record.value)


def decode_payload(kind: str, value: bytes) -> list[Row]:
    """Return the rows of one record's value or of several joined ones; raises as `decode_rows`."""
    return _decoders[kind](value)


def read_headers(headers: Sequence[tuple[str, bytes]], value: bytes) -> JournalRecord:
    """Return the journal record of a Kafka record. Raises KeyError or ValueError where it is none."""
    found = dict(headers)
    return JournalRecord(found["kind"].decode(), int(found["first"]), int(found["last"]), value)
