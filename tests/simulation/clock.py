"""The simulated clock, which likes to stand just before the turn of an IST day or month.

Called by: everything in the simulation; nothing here reads a real clock.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

INDIA = ZoneInfo("Asia/Kolkata")
HALF_HOUR_MS = 1_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Time in milliseconds since 1970, moved on by hand."""

    def __init__(self, rng: random.Random) -> None:
        """Start somewhere in 2026 or 2027, so that the turn of a year is met as well."""
        self._rng = rng
        self.now_ms = 1_767_225_600_000 + rng.randrange(700 * 86_400_000)
        self.counts: Counter[str] = Counter()

    def tick(self) -> None:
        """Let a little time pass."""
        self.advance(int(self._rng.random() * 60))

    def advance(self, ms: int) -> None:
        """Let time pass, counting the turns of IST days and months."""
        before = india(self.now_ms) if ms > 1000 or self.now_ms % 1_800_000 + ms >= 1_800_000 else None
        self.now_ms += ms
        if before is not None:
            after = india(self.now_ms)
            self.counts["day turns"] += before.date() != after.date()
            self.counts["month turns"] += (before.year, before.month) != (after.year, after.month)

    def jump(self) -> None:
        """Go to a few seconds before the next IST midnight or month, or some hours on."""
        now = india(self.now_ms)
        kind = self._rng.random()
        if kind < 0.3:
            self.advance(
                self._rng.randrange(20 * 60_000) if kind < 0.2 else self._rng.randrange(3 * 3_600_000)
            )
            return
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        if kind > 0.6:
            midnight = (now.replace(day=1) + timedelta(days=32)).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
        target_ms = (midnight.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
        self.advance(max(0, target_ms - self._rng.randrange(1_500) - self.now_ms))

    def ist_midnight_near(self) -> int:
        """Return the IST midnight that is nearest, in milliseconds."""
        day = 86_400_000
        start_ms = (self.now_ms + 19_800_000) // day * day - 19_800_000
        return start_ms if self.now_ms - start_ms < day // 2 else start_ms + day


@lru_cache(maxsize=4096)
def _month_and_day(half_hour: int) -> tuple[int, int]:
    at = india(half_hour * HALF_HOUR_MS)
    return at.year * 100 + at.month, at.toordinal() - 719_163


def month_and_day(at_ms: int) -> tuple[int, int]:
    """Return an instant's month (YYYYMM) and day (since 1970) in India; both turn at half past an hour."""
    return _month_and_day(at_ms // HALF_HOUR_MS)


def india(at_ms: int) -> datetime:
    """Return an instant as India's clocks show it, by the tz database."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(INDIA)
