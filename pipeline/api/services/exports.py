"""How many files are made at the same time.

Owns: `Exports`.
Called by: `api/routes/csv_files.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.api.http.errors import too_many

AT_ONCE, AT_ONCE_AN_ORG = 4, 1
AGAIN_MS = 5_000


class Exports:
    """The files that are being made. A whole range is long, so few of them run beside the other answers."""

    def __init__(self) -> None:
        """Start with none."""
        self._running: Counter[str] = Counter()

    @contextmanager
    def one_of(self, org: str) -> Iterator[None]:
        """Count a file of an org while it is made. Raises ApiError 429 where there are too many already."""
        if self._running.total() >= AT_ONCE or self._running[org] >= AT_ONCE_AN_ORG:
            raise too_many(AGAIN_MS)
        self._running[org] += 1
        try:
            yield
        finally:
            self._running[org] -= 1
            if not self._running[org]:
                del self._running[org]
