"""What fetched batches may take in memory, by each of Kafka's codecs."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable

import cramjam
import pytest
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from pipeline.events import UnreadBatch
from pipeline.kafka import clients, decompression
from pipeline.kafka.decompression import BATCH_BYTES_MAX, BoundedRecords, TooLargeError, decompressed

CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, codec.gzip_encode),
    "gzip in members": (1, lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
    "snappy": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy in Java's frames": (2, codec.snappy_encode),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
}
TEXT = b"".join(b'{"id":"%d"},' % n for n in range(20_000))


@pytest.fixture(params=CODECS)
def of_codec(request: pytest.FixtureRequest) -> tuple[int, Callable[[bytes], bytes]]:
    """The number of a codec in a batch's header, and what compresses with it."""
    return CODECS[request.param]


@pytest.mark.parametrize(
    "data", [b"", b"x", TEXT, os.urandom(100_000)], ids=["nothing", "x", "text", "noise"]
)
def test_what_fits_is_decompressed(of_codec: tuple[int, Callable[[bytes], bytes]], data: bytes) -> None:
    number, compress = of_codec
    assert decompressed(number, compress(data), max(1, len(data))) == data


def test_what_is_a_byte_too_large_is_not(of_codec: tuple[int, Callable[[bytes], bytes]]) -> None:
    number, compress = of_codec
    with pytest.raises(TooLargeError):
        decompressed(number, compress(TEXT), len(TEXT) - 1)


def test_damaged_bytes_are_no_large_ones(of_codec: tuple[int, Callable[[bytes], bytes]]) -> None:
    number, compress = of_codec
    with pytest.raises(Exception, match=r".") as raised:
        decompressed(number, compress(TEXT)[:-5], BATCH_BYTES_MAX)
    assert not isinstance(raised.value, TooLargeError)


def _batch(base_offset: int, *values: bytes, codec_number: int = 4) -> bytes:
    """Return a batch as a broker stores it."""
    builder = DefaultRecordBatchBuilder(2, codec_number, 0, -1, -1, -1, 2**30)
    for n, value in enumerate(values):
        builder.append(n, 1_000, None, value, [])
    return base_offset.to_bytes(8) + bytes(builder.build())[8:]


def _with_a_header(*names: bytes, codec_number: int) -> bytes:
    """Return a batch of records with a header each, of these names, which a broker takes whatever they are."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**30)
    for n, _ in enumerate(names):
        builder.append(n, 1_000, None, b"%d" % n, [(f"name{n}", None)])
    plain = bytes(builder.build())
    for n, name in enumerate(names):
        plain = plain.replace(b"name%d" % n, name)
    head, records = bytearray(plain[:61]), plain[61:]
    head[22], records = codec_number, bytes(cramjam.zstd.compress(records)) if codec_number else records
    head[8:12] = (len(head) - 12 + len(records)).to_bytes(4)
    head[17:21] = calc_crc32c(bytes(head[21:]) + records).to_bytes(4)
    return bytes(head) + records


@pytest.mark.parametrize("codec_number", [0, 4])
def test_a_header_whose_name_is_no_text_ends_no_reader(codec_number: int) -> None:
    """What came before it in its batch is read, the whole batch stands for the rest, and the next one is read."""
    spoilt = _with_a_header(b"name0", b"\xff\xfe\xfd\xfc\xfb", b"name2", codec_number=codec_number)
    found = _read(spoilt + _batch(3, b"after"))
    assert [(offset, value) for offset, value in found if offset != 2] == [(0, b"0"), (3, b"after")]
    [unread] = [value for offset, value in found if offset == 2]
    assert isinstance(unread, UnreadBatch)
    assert unread == spoilt
    assert "a header whose name is not UTF-8" in unread.detail


def test_what_ends_a_transaction_is_handed_out_as_aiokafka_reads_it() -> None:
    """It asks such a batch itself for its next record."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, -1, 2**30)
    builder.append(0, 1_000, b"\x00\x00\x00\x00", b"\x00" * 6, [])
    data = bytearray(builder.build())
    data[22] |= 0x20
    data[17:21] = calc_crc32c(bytes(data[21:])).to_bytes(4)
    batch = BoundedRecords(bytes(data)).next_batch()
    assert batch.is_control_batch
    assert next(batch).key == b"\x00\x00\x00\x00"


def _read(data: bytes) -> list[tuple[int, bytes | None]]:
    records, found = BoundedRecords(data), []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        found += [(record.offset, record.value) for record in batch]
    return found


@pytest.mark.parametrize("number", range(5))
def test_records_are_read_as_they_were_written(number: int) -> None:
    data = _batch(0, b"a", b"b" * 1000, codec_number=number) + _batch(7, b"c", codec_number=number)
    assert _read(data + data[:20]) == [(0, b"a"), (1, b"b" * 1000), (7, b"c")]


def test_a_batch_that_is_too_large_is_one_record_and_its_neighbours_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decompression, "BATCH_BYTES_MAX", 100_000)
    bomb = _batch(3, b"0" * 60_000, b"0" * 60_000)
    assert len(bomb) < 300
    [first, (offset, value), last] = _read(_batch(0, b"a") + bomb + _batch(5, b"z"))
    assert (first, last) == ((0, b"a"), (5, b"z"))
    assert (offset, value) == (4, bomb)
    assert isinstance(value, UnreadBatch)
    assert value.detail.startswith("the record batch of offsets 3 to 4, ")


def test_many_small_batches_of_one_fetch_are_read_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is fetched again: the consumer's place is after what was handed out."""
    monkeypatch.setattr(decompression, "FETCH_BYTES_MAX", 250_000)
    batches = [_batch(n, b"0" * 100_000) for n in range(10)]
    assert [offset for offset, _ in _read(b"".join(batches))] == [0, 1, 2]
    assert [offset for offset, _ in _read(b"".join(batches[3:]))] == [3, 4, 5]


def test_every_consumer_reads_so() -> None:
    assert clients.consumer is not None
    assert fetcher.MemoryRecords is BoundedRecords
