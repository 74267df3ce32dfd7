"""Count wrong guesses and requests, and stop who makes too many. Memory only, one count a server.

Owns: the sliding window (`Attempts`), and the token bucket (`RequestRate`).
Called by: `api/services/accounts.py` for promo codes, `api/http/edge.py` and `api/services/context.py` for
requests. Time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict, deque

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


class RequestRate:
    """At most `per_s` a second in the long run, for each name apart, and up to `burst` at once (a token bucket).

    Of `names_max` names the buckets are kept; beyond, whoever came least recently begins with a full one again.
    """

    def __init__(self, per_s: float, burst: int, names_max: int = SWEEP_ABOVE) -> None:
        """Start with full buckets."""
        self._per_ms, self._burst, self._names_max = per_s / 1000, burst, names_max
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, name: str, now_ms: int) -> int:
        """Count one and return 0; or return after how many milliseconds the name may come again, at least 1."""
        left, as_of_ms = self._left.pop(name, (float(self._burst), now_ms))
        left = min(self._burst, left + max(now_ms - as_of_ms, 0) * self._per_ms)
        allowed = left >= 1
        self._left[name] = left - allowed, now_ms
        if len(self._left) > self._names_max:
            self._left.popitem(last=False)
        return 0 if allowed else max(1, -int((left - 1) / self._per_ms // 1))
