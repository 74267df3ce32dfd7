"""The bytes of a spool segment: one entry an event, each with its length and checksum.

Owns: the format, and where a segment's valid bytes end.
Called by: `gateway/sending/spool.py`. Pure.

A segment is MAGIC and then entries. An entry is its body's length and CRC-32, each 4 bytes little endian,
and the body: number (8 bytes), reserved nano-rupees (8), lengths of org and given id (2 and 2), org,
given id, event. Numbers rise within a spool.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"BRSPOOL1"
BODY_BYTES_MAX = 1024 * 1024
_HEAD = struct.Struct("<II")
_BODY = struct.Struct("<QQHH")


class SpoolEntry(NamedTuple):
    """An event in the spool. `given_id` is empty where the library made the id."""

    number: int
    org: str
    given_id: str
    reserved_nano: int
    event: bytes


def encode(entry: SpoolEntry) -> bytes:
    """Return the bytes of an entry."""
    org, given_id = entry.org.encode(), entry.given_id.encode()
    body = (
        _BODY.pack(entry.number, entry.reserved_nano, len(org), len(given_id)) + org + given_id + entry.event
    )
    return _HEAD.pack(len(body), crc32(body)) + body


def size_of(entry: SpoolEntry) -> int:
    """Return how many bytes an entry takes."""
    return _HEAD.size + _BODY.size + len(entry.org.encode()) + len(entry.given_id.encode()) + len(entry.event)


def scan(data: bytes, last_number: int = -1, count_max: int = -1) -> tuple[list[SpoolEntry], int]:
    """Return the entries at the start of some bytes, and where the valid ones end.

    Reading stops at the first entry that is torn, damaged, or not numbered above the one before it, or
    after `count_max` of them.
    """
    entries: list[SpoolEntry] = []
    at, size = 0, len(data)
    view = memoryview(data)
    while at + _HEAD.size <= size and len(entries) != count_max:
        length, checksum = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + length
        if not _BODY.size <= length <= BODY_BYTES_MAX or end > size or crc32(view[start:end]) != checksum:
            break
        number, reserved_nano, org_bytes, id_bytes = _BODY.unpack_from(data, start)
        text = start + _BODY.size
        event = text + org_bytes + id_bytes
        if number <= last_number or event > end:
            break
        org = data[text : text + org_bytes].decode()
        given_id = data[text + org_bytes : event].decode()
        entries.append(SpoolEntry(number, org, given_id, reserved_nano, data[event:end]))
        last_number, at = number, end
    return entries, at
