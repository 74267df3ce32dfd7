"""How many files are open and how many are read for at the same time.

Owns: `Exports`.
Called by: `api/routes/csv_files.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.api.http.errors import too_many

READS_AT_ONCE = 4
FILES_AT_ONCE, FILES_AN_ORG = 16, 1
"""A file is open until its client has taken it, which a slow one makes long: so more are open than are read for. Each
holds a piece in memory."""
AGAIN_MS = 5_000


class Exports:
    """The files that are being made. A whole range is long, so few are read for beside the other answers."""

    def __init__(self) -> None:
        """Start with none. A piece is read while `reading` is held, which is not held while it is sent."""
        self._running: Counter[str] = Counter()
        self.reading = asyncio.Semaphore(READS_AT_ONCE)

    @contextmanager
    def one_of(self, org: str) -> Iterator[None]:
        """Count a file of an org while it is made. Raises ApiError 429 where there are too many already."""
        if self._running.total() >= FILES_AT_ONCE or self._running[org] >= FILES_AN_ORG:
            raise too_many(AGAIN_MS)
        self._running[org] += 1
        try:
            yield
        finally:
            self._running[org] -= 1
            if not self._running[org]:
                del self._running[org]
