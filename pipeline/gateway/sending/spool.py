"""The spool on disk: events wait here until Kafka has them.

Owns: the directory, its identity and lock, appending durably, reading in order, the acknowledged mark.
Called by: `gateway/sending/writer.py` appends, `gateway/sending/sender.py` reads and acknowledges, on one thread each.
Everything here may wait for the disk, so nothing of it is called from the event loop.

The directory holds `lock`, `spool.json` (identity), `acknowledged` (a number and its checksum) and the
segments, named by the first number in them. What a crash left half written is cut off at opening: it
was never reported as stored. A spool must never be copied: two copies would number the same source.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import msgspec

from pipeline.formats import SPOOL, NewerFormatError
from pipeline.gateway.errors import SpoolBroken, SpoolLocked
from pipeline.gateway.sending import entry as format_
from pipeline.gateway.sending.entry import MAGIC, SpoolEntry

log = logging.getLogger(__name__)

SUFFIX = ".spool"
RESTART_STEP = 10**12
"""Numbers start at least this far above the last start's: more than any run between two starts uses."""
READ_BYTES = 256 * 1024
ACKNOWLEDGED_SEGMENTS_KEPT = 1
_MARK = struct.Struct("<QI")


class Identity(msgspec.Struct, forbid_unknown_fields=True, tag_field="format", tag=SPOOL.number):
    """Who the spool is. `started` is where the last run began to number; `partitions` the topic's count."""

    spool: str
    started: int = 0
    partitions: int | None = None


_decode_identity = SPOOL.decoder(Identity)


@dataclass(slots=True, eq=False)
class Segment:
    """A segment file: where it is, its first number, and how many of its bytes are durable."""

    path: Path
    first: int
    size: int


@dataclass(slots=True, frozen=True)
class Cursor:
    """A place in the spool: the next byte to read of a segment."""

    segment: Segment
    at: int


class Spool:
    """An open spool. One thread may append while another reads and acknowledges."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        sync: bool,
        now_ns: int,
        found: Callable[[SpoolEntry, bool], None] = lambda _entry, _waiting: None,
    ) -> None:
        """Open a spool, or make it. Raises SpoolLocked or SpoolBroken.

        `sync` waits for the disk at every append; `now_ns` is the time, from which numbers start so that
        they rise even above numbers that a power cut took. `found` is called with every entry there is, and
        whether it still waits to be sent.
        """
        self._directory, self._segment_bytes, self._sync = directory, segment_bytes, sync
        self._segments: list[Segment] = []
        self._segments_lock = threading.Lock()
        self._file: int | None = None
        self._torn = False
        self._mark: int | None = None
        self._lock_file: int | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = _lock(directory)
            self.identity = self._read_identity()
            self.acknowledged = self._read_mark()
            last = self._open_segments(found)
            start = max(now_ns, self.identity.started + RESTART_STEP, last + 1)
            self.identity.started = start
            self._write_identity()
        except OSError as error:
            self.close()
            raise SpoolBroken(f"the spool {directory} cannot be opened: {error}") from error
        except BaseException:
            self.close()
            raise
        self.next_number = start

    # --- appending (the writer's thread) ---

    def append(self, data: bytes, first: int) -> None:
        """Store the bytes of entries, the first of which has number `first`.

        They are durable on return; where it raises, nothing of them is stored.
        """
        if self._torn:
            self._cut_torn()
        try:
            segment = self._writable(first)
            assert self._file is not None
            _write_all(self._file, data)
            if self._sync:
                os.fdatasync(self._file)
        except BaseException:
            self._torn = True
            self._cut_torn()
            raise
        segment.size += len(data)

    def _writable(self, first: int) -> Segment:
        segment = self._segments[-1] if self._segments else None
        if segment is not None and self._file is not None and segment.size < self._segment_bytes:
            return segment
        if self._file is not None:
            # Only the newest segment may have a torn end, whatever the durability asked for.
            os.fdatasync(self._file)
        self._close_file()
        path = self._directory / f"{first:020d}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        segment = Segment(path, first, 0)
        with self._segments_lock:
            self._segments.append(segment)
        _write_all(self._file, MAGIC)
        os.fdatasync(self._file)
        _sync_directory(self._directory)
        segment.size = len(MAGIC)
        return segment

    def _cut_torn(self) -> None:
        """Cut what a failed append left, and go on in a new segment. Raises OSError where that fails too."""
        segment = self._segments[-1] if self._segments else None
        if segment is not None and self._file is not None:
            os.ftruncate(self._file, segment.size)
            os.fsync(self._file)
            self._close_file()
            if segment.size <= len(MAGIC):
                segment.path.unlink(missing_ok=True)
                with self._segments_lock:
                    self._segments.remove(segment)
        self._torn = False

    # --- reading and acknowledging (the reader's thread) ---

    def beginning(self) -> Cursor | None:
        """Return the place of the oldest segment, None while there is none."""
        with self._segments_lock:
            return Cursor(self._segments[0], len(MAGIC)) if self._segments else None

    def read(self, cursor: Cursor | None, bytes_max: int) -> tuple[list[SpoolEntry], Cursor | None]:
        """Return entries beyond the acknowledged mark from a place on, and the place after them.

        No entries: there are none yet. Raises SpoolBroken where a stored entry cannot be read, OSError.
        """
        entries: list[SpoolEntry] = []
        size = 0
        while size < bytes_max:
            cursor = cursor or self.beginning()
            if cursor is None:
                break
            if cursor.at >= cursor.segment.size:
                following = self._after(cursor.segment)
                if following is None:
                    break
                # The segment may have grown between the two questions, but not after it has a follower.
                if cursor.at >= cursor.segment.size:
                    cursor = Cursor(following, len(MAGIC))
                continue
            found, cursor = self._read_some(cursor)
            fresh = [entry for entry in found if entry.number > self.acknowledged]
            entries += fresh
            size += sum(len(entry.event) for entry in fresh)
        return entries, cursor

    def _after(self, segment: Segment) -> Segment | None:
        with self._segments_lock:
            return next((s for s in self._segments if s.first > segment.first), None)

    def _read_some(self, cursor: Cursor) -> tuple[list[SpoolEntry], Cursor]:
        segment = cursor.segment
        end = segment.size
        file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(file, min(READ_BYTES, end - cursor.at), cursor.at)
            entries, valid = format_.scan(data)
            if not entries:
                data = os.pread(file, min(2 * format_.BODY_BYTES_MAX, end - cursor.at), cursor.at)
                entries, valid = format_.scan(data, count_max=1)
        finally:
            os.close(file)
        if not entries:
            raise SpoolBroken(f"{segment.path} is damaged at byte {cursor.at}: its events cannot be read")
        return entries, Cursor(segment, cursor.at + valid)

    def acknowledge(self, number: int) -> None:
        """Note that Kafka has every entry up to a number, and delete segments that are no longer needed.

        The newest of those are kept: they tell which ids were given before. Raises OSError.
        """
        self.acknowledged = number
        if self._mark is None:
            path = self._directory / "acknowledged"
            self._mark = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        packed = number.to_bytes(8, "little")
        os.pwrite(self._mark, _MARK.pack(number, crc32(packed)), 0)
        with self._segments_lock:
            done = 0
            while done + 1 < len(self._segments) and self._segments[done + 1].first <= number + 1:
                done += 1
            unneeded = self._segments[: max(0, done - ACKNOWLEDGED_SEGMENTS_KEPT)]
            del self._segments[: len(unneeded)]
        for segment in unneeded:
            segment.path.unlink(missing_ok=True)

    def fix_partitions(self, count: int) -> None:
        """Remember the partition count that the spool's events are sent with. Raises OSError."""
        self.identity.partitions = count
        self._write_identity()

    def close(self) -> None:
        """Close the files and let go of the lock."""
        self._close_file()
        for file in (self._mark, self._lock_file):
            if file is not None:
                os.close(file)
        self._mark = self._lock_file = None

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # --- opening ---

    def _open_segments(self, found: Callable[[SpoolEntry, bool], None]) -> int:
        """Find the segments, cut the newest one's torn end, and return the last number there is."""
        paths = sorted(self._directory.glob(f"*{SUFFIX}"))
        last = self.acknowledged
        previous = -1
        for path in paths:
            data = path.read_bytes()
            if data[:7] == MAGIC[:7] and data[7:8] not in (MAGIC[7:], b""):
                raise SpoolBroken(f"{path} was written by a newer version of this library")
            entries, valid = (
                format_.scan(data[len(MAGIC) :], previous) if data[:8] == MAGIC else ([], -len(MAGIC))
            )
            valid += len(MAGIC)
            if valid < len(data):
                if path != paths[-1]:
                    raise SpoolBroken(
                        f"{path} is damaged at byte {valid} of {len(data)}. Move the whole directory aside, "
                        f"start with an empty one, and have the moved one looked at: it holds events."
                    )
                log.warning("cutting %d torn bytes off %s", len(data) - valid, path)
                os.truncate(path, valid)
            if not entries:
                path.unlink()
                continue
            self._segments.append(Segment(path, entries[0].number, valid))
            for entry in entries:
                found(entry, entry.number > self.acknowledged)
            previous = entries[-1].number
            last = max(last, previous)
        _sync_directory(self._directory)
        return last

    def _read_identity(self) -> Identity:
        path = self._directory / "spool.json"
        if not path.exists():
            return Identity(str(uuid.uuid4()))
        try:
            return _decode_identity(path.read_bytes())
        except NewerFormatError as error:
            raise SpoolBroken(f"{path}: {error}") from error
        except msgspec.MsgspecError as error:
            raise SpoolBroken(f"{path} cannot be read: {error}") from error

    def _write_identity(self) -> None:
        path, new = self._directory / "spool.json", self._directory / "spool.json.new"
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, msgspec.json.encode(self.identity))
            os.fsync(file)
        finally:
            os.close(file)
        new.replace(path)
        _sync_directory(self._directory)

    def _read_mark(self) -> int:
        try:
            data = (self._directory / "acknowledged").read_bytes()
        except FileNotFoundError:
            return -1
        if len(data) < _MARK.size:
            return -1
        number, checksum = _MARK.unpack_from(data)
        # Without a mark everything is sent again, and the worker drops it by its numbers.
        return int(number) if crc32(data[:8]) == checksum else -1


def _lock(directory: Path) -> int:
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise SpoolLocked(f"another process has the spool {directory} open") from None
    except OSError:
        os.close(file)
        raise
    return file


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
