"""Store events from the event loop: many publishers, one thread, one fsync for all that wait.

Owns: the thread that appends to the spool, and telling publishers how it ended.
Called by: `gateway/gateway.py`. Next: `gateway/sending/spool.py`.

The thread takes whatever has gathered while the last fsync ran. It alone waits for the disk, so a slow
or hanging disk holds up publishers and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from pipeline.gateway.errors import SpoolBroken, SpoolError, SpoolFull
from pipeline.gateway.sending.spool import Spool

log = logging.getLogger(__name__)

GROUP_BYTES = 4 * 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(slots=True, eq=False)
class Pending:
    """An event on its way to the disk: its entry's bytes and number, and who waits."""

    data: bytes
    number: int
    done: asyncio.Future[None]
    ended: Callable[[Pending, SpoolError | None], None]


class SpoolWriter:
    """The thread that appends."""

    def __init__(self, spool: Spool, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare to append to a spool for an event loop."""
        self._spool, self._loop = spool, loop
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, pending: Pending) -> None:
        """Hand an event over. `ended` is called in the event loop, then its future resolves."""
        self._queue.put(pending)

    def stop(self, limit_s: float) -> bool:
        """Store what was handed over, end the thread, and say whether it ended in time."""
        self._queue.put(None)
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._gather()
            if not group:
                continue
            error = self._append(group)
            try:
                self._loop.call_soon_threadsafe(_end, group, error)
            except RuntimeError:
                # The loop is gone, and with it everybody who waited.
                return

    def _gather(self) -> tuple[list[Pending], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        group, size = [first], len(first.data)
        while size < GROUP_BYTES:
            try:
                pending = self._queue.get_nowait()
            except Empty:
                break
            if pending is None:
                return group, False
            group.append(pending)
            size += len(pending.data)
        return group, True

    def _append(self, group: list[Pending]) -> SpoolError | None:
        try:
            self._spool.append(b"".join([pending.data for pending in group]), group[0].number)
        except OSError as error:
            kind = SpoolFull if error.errno in _FULL else SpoolBroken
            return kind(f"the spool could not be written: {error}")
        except Exception as error:
            # A dead thread would leave every publisher waiting; the spool has cut what it half wrote.
            log.exception("appending to the spool failed")
            return SpoolBroken(f"the spool could not be written: {error!r}")
        return None


def _end(group: list[Pending], error: SpoolError | None) -> None:
    for pending in group:
        pending.ended(pending, error)
        if pending.done.done():
            continue
        if error is None:
            pending.done.set_result(None)
        else:
            pending.done.set_exception(error)
            # Its publisher may have gone; an exception that nobody fetches would be logged as a mistake.
            pending.done.exception()
