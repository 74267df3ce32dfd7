"""Write a day of a topic's log in minutes: segments in Kafka's own form, put where a stopped broker finds them.

Owns: the bytes of a transaction as they stand in a log: its record batch, then the marker that ends it.
Called by: `bench/starts.py`.

The form is Kafka's record batch, version 2 (https://kafka.apache.org/documentation/#recordbatch): a batch's offset
comes first and is not covered by its checksum, so the same bytes serve again at other offsets. A marker is a control
batch of one record, whose key says commit and whose value holds the coordinator's epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

Pair = tuple[bytes, bytes | None]

_ZSTD, _UNCOMPRESSED = 4, 0
_TRANSACTIONAL_CONTROL = 0x30
_CRC_AT, _ATTRIBUTES_AT, _SEQUENCE_AT = 17, 21, 53
_BATCH_BYTES = 4 * 1024 * 1024
_PRODUCER_ID = 7


@dataclass(frozen=True)
class Transaction:
    """One unit's transaction on one partition: `at_ms` is its time stamp, `offsets` how many offsets it takes."""

    at_ms: int
    data: bytes
    marker_at: int
    records: int

    @property
    def offsets(self) -> int:
        """One for each record and one for the marker."""
        return self.records + 1


def transaction(records: Sequence[Pair], at_ms: int) -> Transaction:
    """Return the bytes of a transaction that writes these records to one partition."""
    batch = _batch(records, at_ms, compression=_ZSTD)
    marker = _batch([(struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0))], at_ms, compression=_UNCOMPRESSED)
    struct.pack_into(">h", marker, _ATTRIBUTES_AT, _TRANSACTIONAL_CONTROL)
    struct.pack_into(">i", marker, _SEQUENCE_AT, -1)
    struct.pack_into(">I", marker, _CRC_AT, calc_crc32c(bytes(marker[_ATTRIBUTES_AT:])))
    return Transaction(at_ms, bytes(batch + marker), len(batch), len(records))


def _batch(records: Sequence[Pair], at_ms: int, *, compression: int) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=1,
        producer_id=_PRODUCER_ID,
        producer_epoch=0,
        base_sequence=0,
        batch_size=_BATCH_BYTES,
    )
    for number, (key, value) in enumerate(records):
        builder.append(number, at_ms, key, value, [])
    return bytearray(builder.build())


def write(
    directory: Path, first_offset: int, units: Iterable[Transaction], *, segment_ms: int, segment_bytes: int
) -> tuple[int, int]:
    """Write a partition's segments into its directory; return the offset after the last, and the bytes written.

    The broker must be stopped. It makes the indexes when it starts without having been stopped in order.
    """
    offset, written = first_offset, 0
    segment, began_ms = bytearray(), 0
    segment_offset = offset
    for unit in units:
        if segment and (unit.at_ms - began_ms >= segment_ms or len(segment) + len(unit.data) > segment_bytes):
            (directory / f"{segment_offset:020d}.log").write_bytes(segment)
            written += len(segment)
            segment, segment_offset = bytearray(), offset
        if not segment:
            began_ms = unit.at_ms
        at = len(segment)
        segment += unit.data
        struct.pack_into(">q", segment, at, offset)
        struct.pack_into(">q", segment, at + unit.marker_at, offset + unit.records)
        offset += unit.offsets
    (directory / f"{segment_offset:020d}.log").write_bytes(segment)
    return offset, written + len(segment)
