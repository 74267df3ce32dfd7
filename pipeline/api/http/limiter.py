"""Count wrong guesses, and stop who makes too many. Memory only, one count a server.

Owns: the sliding window.
Called by: `api/services/accounts.py`, for promo codes. Time is an argument.
"""

from __future__ import annotations

from collections import deque

SWEEP_ABOVE = 10_000


class Attempts:
    """At most `most` attempts in any window of `window_ms`, for each name apart."""

    def __init__(self, most: int, window_ms: int) -> None:
        """Start with nobody having tried."""
        self._most = most
        self._window_ms = window_ms
        self._times: dict[str, deque[int]] = {}

    def wait_ms(self, name: str, now_ms: int) -> int:
        """Return how long a name has to wait before it may try, 0 where it may now."""
        times = self._kept(name, now_ms)
        return times[0] + self._window_ms - now_ms if len(times) >= self._most else 0

    def add(self, name: str, now_ms: int) -> None:
        """Count an attempt."""
        if len(self._times) > SWEEP_ABOVE:
            for other in list(self._times):
                self._kept(other, now_ms)
        self._times.setdefault(name, deque()).append(now_ms)

    def _kept(self, name: str, now_ms: int) -> deque[int]:
        times = self._times.get(name, deque())
        while times and times[0] <= now_ms - self._window_ms:
            times.popleft()
        if not times:
            self._times.pop(name, None)
        return times

    def take_back(self, name: str) -> None:
        """Uncount the latest attempt: it was no wrong guess."""
        times = self._times.get(name)
        if times:
            times.pop()
        if not times:
            self._times.pop(name, None)
