"""Requests of a key in the last minute, as one gateway node sees them.

Owns: the per-minute limit.
Called by: `gateway/admission/gate.py`.

Requests are counted by the second, so memory does not grow with the limit. A request counts for 60 to
61 seconds: never more than the limit passes in any 60.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 60


class Minute:
    """A key's admitted requests of the last minute."""

    __slots__ = ("_latest", "_seconds", "_total")

    def __init__(self) -> None:
        """Start with none."""
        self._seconds: deque[list[int]] = deque()
        self._latest = [-1, 0]
        self._total = 0

    def admit(self, now_ms: int, limit: int) -> int:
        """Count a request and return 0, or return the seconds to wait where the limit is reached."""
        second = now_ms // 1000
        latest = self._latest
        if latest[0] == second and self._total < limit:
            # Whatever this second makes too old was forgotten at its first request.
            latest[1] += 1
            self._total += 1
            return 0
        seconds = self._seconds
        if seconds:
            if seconds[0][0] < second - WINDOW_S or seconds[0][0] > second + WINDOW_S:
                self._forget(second)
            if self._total >= limit:
                return seconds[0][0] + WINDOW_S + 1 - second if seconds else WINDOW_S
            if seconds and seconds[-1][0] >= second:
                seconds[-1][1] += 1
                self._total += 1
                return 0
        self._latest = [second, 1]
        seconds.append(self._latest)
        self._total += 1
        return 0

    def is_idle(self, now_ms: int) -> bool:
        """Whether no request of the last minute is left."""
        self._forget(now_ms // 1000)
        return not self._seconds

    def _forget(self, second: int) -> None:
        seconds = self._seconds
        while seconds and (seconds[0][0] < second - WINDOW_S or seconds[0][0] > second + WINDOW_S):
            self._total -= seconds.popleft()[1]
        if not seconds:
            self._latest = [-1, 0]
