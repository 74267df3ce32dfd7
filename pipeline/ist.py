"""Days and months in Indian Standard Time: the only place that knows the offset.

Owns: which IST day or month an instant belongs to, and when that day or month begins and ends.
Called by: the core (budgets, daily limits), the API (ranges), the demo.

India has kept UTC+05:30 without daylight saving since 1945, so a fixed offset is exact; the tests
compare it with the tz database. Instants are milliseconds since 1970-01-01T00:00:00Z. A day is the
number of days since 1970-01-01; a month is the number YYYYMM.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

IST = timezone(timedelta(hours=5, minutes=30), "IST")
OFFSET_MS = 19_800_000
DAY_MS = 86_400_000
DECEMBER = 12

_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(at_ms: int) -> int:
    """Return the IST day of an instant."""
    return (at_ms + OFFSET_MS) // DAY_MS


@lru_cache(maxsize=4096)
def month_of_day(day: int) -> int:
    """Return the month YYYYMM that an IST day belongs to."""
    calendar = date_of(day)
    return calendar.year * 100 + calendar.month


def month_of(at_ms: int) -> int:
    """Return the IST month YYYYMM of an instant."""
    return month_of_day(day_of(at_ms))


def date_of(day: int) -> date:
    """Return the calendar date of an IST day."""
    return _EPOCH_DAY + timedelta(days=day)


def day_of_date(calendar: date) -> int:
    """Return the IST day of a calendar date."""
    return (calendar - _EPOCH_DAY).days


def day_start_ms(day: int) -> int:
    """Return the first instant of an IST day: 18:30:00.000 UTC of the day before."""
    return day * DAY_MS - OFFSET_MS


def day_end_ms(day: int) -> int:
    """Return the first instant after an IST day."""
    return day_start_ms(day + 1)


def next_month(month: int) -> int:
    """Return the month after YYYYMM."""
    return month + 1 if month % 100 < DECEMBER else month + 89


def month_start_ms(month: int) -> int:
    """Return the first instant of an IST month YYYYMM."""
    return day_start_ms(day_of_date(date(month // 100, month % 100, 1)))


def month_end_ms(month: int) -> int:
    """Return the first instant after an IST month YYYYMM."""
    return month_start_ms(next_month(month))


def datetime_of(at_ms: int) -> datetime:
    """Return the instant as an aware datetime in IST, exact to the millisecond."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(IST)


def ms_of(at: datetime) -> int:
    """Return the milliseconds since the epoch of an aware datetime, truncated to the millisecond."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def isoformat(at_ms: int) -> str:
    """Return the instant as ISO 8601 in IST with its offset, to the millisecond."""
    return datetime_of(at_ms).isoformat(timespec="milliseconds")
