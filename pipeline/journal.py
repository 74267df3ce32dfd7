"""The journal: what was posted, row by row, ready for ClickHouse.

Owns: the columns of the two kinds of rows, the public id, and how rows become a record's bytes.
Called by: `posting/` writes rows, `sink/` carries the bytes unread, `operations/verify.py` reads them.

A record's value is JSONCompactEachRow: one JSON array a line, in the order of the columns here. Its
headers `kind`, `first` and `last` tell which rows it holds: positions within the partition, which rise
by one a row over both kinds together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

PARTITIONS_MAX = 1024
POSITION_MAX = 2**43 - 1
ROWS_A_RECORD = 1_000
RECORD_BYTES_MAX = 8 * 1024 * 1024
"""Half of what the topic takes: the rows of one record may have come in several large ones."""

REQUESTS = "requests"
LEDGER = "ledger"

REQUEST_COLUMNS = (
    "id",
    "org",
    "at_ms",
    "posted_ms",
    "source",
    "event_id",
    "key_id",
    "tier",
    "byok",
    "model",
    "provider",
    "status",
    "error_code",
    "latency_ms",
    "ttft_ms",
    "stream",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nano",
    "rate_from_ms",
)
"""A charged request. `rate_from_ms` names the route's rate by its start; 0 where the request was free."""

LEDGER_COLUMNS = (
    "id",
    "org",
    "posted_ms",
    "kind",
    "amount_nano",
    "balance_after_nano",
    "payment_id",
    "order_id",
    "promo_code",
    "note",
)
"""A money event of an org."""

COLUMNS = {REQUESTS: REQUEST_COLUMNS, LEDGER: LEDGER_COLUMNS}

Row = tuple[object, ...]


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


def public_id(partition: int, position: int) -> int:
    """Return the id that the outside sees of a row: 53 bits, rising with the position."""
    return position * PARTITIONS_MAX + partition


def position_of(row_id: int) -> tuple[int, int]:
    """Return the (partition, position) of a public id."""
    return row_id % PARTITIONS_MAX, row_id // PARTITIONS_MAX


_encode_rows = msgspec.json.Encoder().encode_lines
_decode_row = msgspec.json.Decoder(list[object]).decode_lines


def encode_rows(kind: str, rows: Sequence[Row]) -> list[JournalRecord]:
    """Return the records that hold the rows, which have rising ids of one partition."""
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
    first, last = (position_of(int(str(row[0])))[1] for row in (rows[0], rows[-1]))
    return [JournalRecord(kind, first, last, value)]


def decode_rows(value: bytes) -> Iterable[list[object]]:
    """Return the rows of a record's value as lists in the order of its kind's columns."""
    return _decode_row(value)


def read_headers(headers: Sequence[tuple[str, bytes]], value: bytes) -> JournalRecord:
    """Return the journal record of a Kafka record. Raises KeyError or ValueError where it is none."""
    found = dict(headers)
    return JournalRecord(found["kind"].decode(), int(found["first"]), int(found["last"]), value)
