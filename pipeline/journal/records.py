"""Records of the journal: rows on their way into Kafka, and rows again. Whoever reads the journal does so here.

Owns: the formats that a record may have, what its headers tell, and how many rows it holds.
Called by: `posting/unit.py` writes; `sink/` reads headers; `operations/audit.py` and `clickhouse/lost.py` read rows.
Next: `journal/native.py` has the layout of a block.

The headers `kind`, `first` and `last` tell which rows a record holds: positions within the partition, which rise by
one a row over both kinds together. `format` is a number that tells how they are written; why is in
`docs/adr/0007-the-journal-in-blocks.md`:

- none, or 1: a JSON array a line, in the order of the columns of release 0.1.0 (JSONCompactEachRow).
- 2: a block of ClickHouse's Native format, which names and types its columns. A column in which no row has anything
  but the default of its type is left out: what few requests have costs nothing where none has it.

The journal is kept for ever, so what is written in a format stays readable. An unknown format is newer than this
release, and so is a block with a column that is not known here: both are refused, as their rows could only be
understood in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import astuple

from pipeline.journal.native import Block, BlockError, decode_blocks, default_of, encode_block, reads_as
from pipeline.journal.rows import COLUMNS, LEDGER, REQUESTS, ROW_TYPES, Row, position_of

ROWS_A_RECORD = 1_000
RECORD_BYTES_MAX = 8 * 1024 * 1024
"""Half of what the topic takes: the rows of one record may have come in several large ones."""

RowValues = tuple[Any, ...]
"""A row as the values of its columns, in their order."""
_ID = 0
"""Where the id stands in it."""

JSON_ARRAYS = 1
NATIVE = 2
FORMATS = (JSON_ARRAYS, NATIVE)


def _up_to(kind: str, last: str) -> tuple[str, ...]:
    names = tuple(COLUMNS[kind])
    return names[: names.index(last) + 1]


JSON_COLUMNS = {REQUESTS: _up_to(REQUESTS, "rate_from_ms"), LEDGER: _up_to(LEDGER, "note")}
"""The columns of an array of format 1, in order. They never change."""


class JournalFormatError(Exception):
    """A record that this release cannot read, most likely as a newer one wrote it. The message says why."""


class JournalRecord(msgspec.Struct, frozen=True):
    """One record of the journal: rows of one kind at positions `first` to `last` of their partition."""

    kind: str
    first: int
    last: int
    value: bytes
    format: int = NATIVE

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the record's Kafka headers."""
        return [
            ("kind", self.kind.encode()),
            ("first", str(self.first).encode()),
            ("last", str(self.last).encode()),
            ("format", str(self.format).encode()),
        ]


_BLOCK_TYPES = {
    kind: {name: "String" if of == "LowCardinality(String)" else of for name, of in columns.items()}
    for kind, columns in COLUMNS.items()
}
"""By kind: what a block has each column as. That a column has few values is the table's own affair."""


def encode_rows(kind: str, rows: Sequence[Row]) -> list[JournalRecord]:
    """Return the records that hold the rows, which are of one kind and have rising ids of one partition."""
    return encode_values(kind, list(map(astuple, rows)))


def encode_values(kind: str, rows: Sequence[RowValues]) -> list[JournalRecord]:
    """Return what `encode_rows` does, of rows given as the bare values of their columns: the hot path has no others."""
    records: list[JournalRecord] = []
    for start in range(0, len(rows), ROWS_A_RECORD):
        records += _records(kind, rows[start : start + ROWS_A_RECORD])
    return records


def _records(kind: str, rows: Sequence[RowValues]) -> list[JournalRecord]:
    """Return one record, or where its rows are so long that Kafka would refuse it, several."""
    value = _block(kind, rows)
    if len(value) > RECORD_BYTES_MAX and len(rows) > 1:
        middle = len(rows) // 2
        return _records(kind, rows[:middle]) + _records(kind, rows[middle:])
    return [JournalRecord(kind, position_of(rows[0][_ID])[1], position_of(rows[-1][_ID])[1], value)]


def _block(kind: str, rows: Sequence[RowValues]) -> bytes:
    """Return the block of rows, without the columns of which no row has anything."""
    types: dict[str, str] = {}
    columns = []
    for (name, of), values in zip(_BLOCK_TYPES[kind].items(), zip(*rows, strict=True), strict=True):
        # Of a column that may be none, 0 is something.
        if any(values) or (0 in values and default_of(of) is None):
            types[name] = of
            columns.append(values)
    return encode_block(types, columns)


def decode_rows(record: JournalRecord) -> list[Row]:
    """Return the rows of a record. Raises JournalFormatError where it cannot be read."""
    return decode_payload(record.kind, record.value, record.format)


def decode_payload(kind: str, value: bytes, written_as: int) -> list[Row]:
    """Return the rows of one record's value, or of several of one kind and format joined; raises as `decode_rows`."""
    if kind not in ROW_TYPES:
        raise JournalFormatError(f"rows of kind {kind!r} are not known to this release")
    try:
        if written_as == JSON_ARRAYS:
            return _decoders[kind](value)
        return [row for block in decode_blocks(value) for row in _rows_of(kind, block)]
    except (msgspec.MsgspecError, BlockError) as error:
        raise JournalFormatError(f"rows of kind {kind!r} cannot be read: {error}") from error


_decoders = {kind: msgspec.json.Decoder(row).decode_lines for kind, row in ROW_TYPES.items()}


def _rows_of(kind: str, block: Block) -> list[Row]:
    known = _BLOCK_TYPES[kind]
    for name, (of, _) in block.items():
        if name not in known or not reads_as(of, known[name]):
            raise BlockError(f"a column {name!r} of type {of} is not known to this release")
    if "id" not in block:
        raise BlockError("the column 'id' is missing")
    columns = (block[name][1] if name in block else repeat(default_of(of)) for name, of in known.items())
    return list(map(ROW_TYPES[kind], *columns))


def read_headers(headers: Sequence[tuple[str, bytes]], value: bytes) -> JournalRecord:
    """Return the journal record of a Kafka record.

    Raises JournalFormatError for a format that this release does not know, and KeyError or ValueError where it is no
    record of the journal at all.
    """
    found = dict(headers)
    record = JournalRecord(
        kind=found["kind"].decode(),
        first=int(found["first"]),
        last=int(found["last"]),
        value=value,
        format=int(found.get("format", b"1")),
    )
    if record.format not in FORMATS:
        raise JournalFormatError(
            f"the journal has a record in format {record.format}, and this release knows {FORMATS[0]} to {FORMATS[-1]}: "
            "a newer release wrote it, which has to read it too"
        )
    return record
