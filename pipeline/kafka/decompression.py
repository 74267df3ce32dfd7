"""Bound what fetched records take in memory: a few kilobytes on the wire may be gigabytes when they are decompressed.

Owns: those bounds, and decompressing the batches that aiokafka hands out.
Called by: `kafka/clients.py`, which has every consumer read through `BoundedRecords`.

aiokafka decompresses a whole batch in one go, and hands out all batches of a fetch at once, so a batch of 3 KB that
is 10 GB of zeros would end its reader, and the next reader too. Here a batch is decompressed into a buffer that does
not grow. One that does not fit is handed out as a single record: its bytes as they are on the wire, an `UnreadBatch`. So is
one that aiokafka cannot read, after those of its records that it could.

The format is Kafka's own: https://kafka.apache.org/documentation/#recordbatch. Brokers keep no older one since 3.0.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from pipeline.events import UnreadBatch

BATCH_BYTES_MAX = 64 * 1024 * 1024
"""What a batch may be when decompressed: 16 times the largest that a topic takes. Events are 6 to 10 times."""
FETCH_BYTES_MAX = 64 * 1024 * 1024
"""After so much of a partition no further batch of the same fetch is decompressed: it is fetched again later."""

_LENGTH = struct.Struct(">i")
_LENGTH_AT, _OVERHEAD, _CODEC_AT, _RECORDS_AT = 8, 12, 22, 61
_CODEC_MASK = 0x07
_GZIP_FORMAT = 31
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_FULL = "failed to write whole buffer"


class Codec(IntEnum):
    """How a batch is compressed, by the number in its header."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class TooLargeError(Exception):
    """Decompressed, the bytes would be more than allowed."""


class WholeBatch(NamedTuple):
    """What aiokafka asks of a record, of a batch that stands for all of its own."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    checksum: int | None = None


class BoundedRecords:
    """The batches of a fetch of one partition, in the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes of a fetch: whole batches, and the beginning of another one maybe."""
        self._records = MemoryRecords(data)
        self._data, self._at = data, 0
        self._room = FETCH_BYTES_MAX

    def size_in_bytes(self) -> int:
        """Return the number of bytes on the wire."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another whole batch, and room for it."""
        return self._room > 0 and bool(self._records.has_next())

    def next_batch(self) -> Any:
        """Return the next batch, as aiokafka reads it."""
        begin = self._at
        self._at += _OVERHEAD + _LENGTH.unpack_from(self._data, begin + _LENGTH_AT)[0]
        batch = self._records.next_batch()
        if not isinstance(batch, DefaultRecordBatch):
            raise CorruptRecordException("a batch of a format that brokers have not kept since Kafka 3.0")
        if batch.is_control_batch:
            # Brokers alone write these, and aiokafka looks into them in a way of its own.
            self.took(self._at - begin)
            return batch
        return _ReadBatch(batch, self._data[begin : self._at], self)

    def took(self, size: int) -> None:
        """Note that a batch was decompressed to so many bytes."""
        self._room -= size


class _ReadBatch:
    """A batch: what its header says, and its records when they are asked for."""

    def __init__(self, batch: DefaultRecordBatch, data: bytes, records: BoundedRecords) -> None:
        self._batch, self._data, self._records = batch, data, records
        self.producer_id = batch.producer_id
        self.base_offset, self.next_offset = batch.base_offset, batch.next_offset
        self.is_control_batch, self.is_transactional = batch.is_control_batch, batch.is_transactional

    def validate_crc(self) -> bool:
        return bool(self._batch.validate_crc())

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._opened()
        except UnicodeDecodeError:
            # Brokers take any bytes for a header's name, and aiokafka's parser ends at one that is no text.
            yield self._whole("has a header whose name is not UTF-8: from there on it was not read")

    def _opened(self) -> Iterator[Any]:
        data = self._data
        if self._batch.compression_type == Codec.NONE:
            self._records.took(len(data))
            return iter(self._batch)
        try:
            plain = decompressed(data[_CODEC_AT] & _CODEC_MASK, data[_RECORDS_AT:], BATCH_BYTES_MAX)
        except TooLargeError:
            return iter(
                [self._whole(f"is more than {BATCH_BYTES_MAX} bytes when decompressed: it was not read")]
            )
        self._records.took(len(plain))
        codec = bytes([data[_CODEC_AT] & ~_CODEC_MASK])
        header = data[:_CODEC_AT] + codec + data[_CODEC_AT + 1 : _RECORDS_AT]
        return iter(DefaultRecordBatch(header + plain))

    def _whole(self, why: str) -> WholeBatch:
        """Return the one record that stands for the batch; it has the offset of its last one."""
        batch = self._batch
        value = UnreadBatch(self._data)
        value.detail = (
            f"the record batch of offsets {batch.base_offset} to {batch.next_offset - 1}, {len(self._data)} bytes as they "
            f"were sent, {why}"
        )
        self._records.took(len(self._data))
        return WholeBatch(batch.next_offset - 1, batch.max_timestamp, batch.timestamp_type, value)


def decompressed(codec: int, data: bytes, bytes_max: int) -> bytes:
    """Return the bytes that were compressed with one of Kafka's codecs; no more memory is taken than for `bytes_max`.

    Raises TooLargeError where they are more, and what the codec's library raises for bytes that are damaged.
    """
    match codec:
        case Codec.GZIP:
            return _gunzipped(data, bytes_max)
        case Codec.SNAPPY:
            return _unsnapped(data, bytes_max)
        case Codec.LZ4:
            return _into_buffer(cramjam.lz4, data, bytes_max)
        case Codec.ZSTD:
            return _into_buffer(cramjam.zstd, data, bytes_max)
    raise UnsupportedCodecError(f"unknown compression codec {codec}")


def _into_buffer(library: Any, data: bytes, bytes_max: int) -> bytes:
    # A small buffer does nearly always; zeroed memory is taken only where it is written to.
    for size in (min(bytes_max, 32 * len(data) + 4096), bytes_max):
        buffer = bytearray(size)
        try:
            written = library.decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            if _FULL not in str(error):
                raise
            continue
        return bytes(memoryview(buffer)[:written])
    raise TooLargeError


def _gunzipped(data: bytes, bytes_max: int) -> bytes:
    parts, room = [], bytes_max
    while data:
        member = zlib.decompressobj(_GZIP_FORMAT)
        part = member.decompress(data, room + 1)
        if len(part) > room:
            raise TooLargeError
        if not member.eof:
            raise CorruptRecordException("a gzip stream is cut off")
        parts.append(part)
        room -= len(part)
        data = member.unused_data
    return b"".join(parts)


def _unsnapped(data: bytes, bytes_max: int) -> bytes:
    """Return raw Snappy, or the blocks that Java's library frames, decompressed: each says first how long it is."""
    if not data.startswith(_XERIAL):
        return _unsnapped_block(data, bytes_max)
    parts, room, at = [], bytes_max, _XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        parts.append(_unsnapped_block(data[at : at + length], room))
        room -= len(parts[-1])
        at += length
    return b"".join(parts)


def _unsnapped_block(data: bytes, bytes_max: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > bytes_max:
        raise TooLargeError
    return bytes(cramjam.snappy.decompress_raw(data))


def install() -> None:
    """Have aiokafka's consumers in this process read through `BoundedRecords`: it has no setting for that."""
    fetcher.MemoryRecords = BoundedRecords
