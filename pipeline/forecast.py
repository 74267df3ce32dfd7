"""How long a balance lasts, by what was spent on each of the last 28 IST days.

Owns: the method, which docs/forecast.md tells in words and `bench/forecasts.py` tries on histories. Pure.
Called by: `api/routes/forecast.py`.

Weekdays are told apart: `Usual` knows what each weekday costs. What may change is the level, a factor on all
weekdays alike, in billionths: 10^9 means that a coming Monday costs what a Monday did. A path is one way on, such as
«as in the last week»; the forecast lies between the lowest and the highest path, each with room for what days
differ by chance. Amounts are integers in nano-rupees and division rounds down; a variance is in their squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from math import isqrt

from msgspec import Struct

from pipeline import ist

HISTORY_DAYS = 28
"""Four whole weeks, so that each weekday is in them equally often."""
HISTORY_DAYS_LEAST = 3
HORIZON_DAYS = 366
"""How far ahead is looked: four weeks say little of the year after next."""
AHEAD_DAYS = 28
"""The days that a spend per day is the mean of."""

_WEEK = 7
_TWO_WEEKS = 2 * _WEEK
_SAME = 10**9
"""The level at which days cost what they did."""
_GROWTH_MAX = 2
"""How many times today's level a growth is told to reach."""


class Spend(Struct, frozen=True):
    """What is spent a day, in nano-rupees: low, likely and high."""

    low_nano: int
    likely_nano: int
    high_nano: int


class RunsOut(Struct, frozen=True):
    """The IST day on which a balance is used up. None where it lasts beyond the days that were forecast."""

    earliest: int
    likely: int | None
    latest: int | None


class Forecast(Struct, frozen=True):
    """What will have been spent from now to the end of each IST day, today first, in nano-rupees. Never falls."""

    today: int
    low_nano: tuple[int, ...]
    likely_nano: tuple[int, ...]
    high_nano: tuple[int, ...]

    def spend_per_day(self) -> Spend:
        """Return the mean of the AHEAD_DAYS days after today, which must have been forecast."""
        return Spend(*(_mean_ahead(totals) for totals in (self.low_nano, self.likely_nano, self.high_nano)))

    def runs_out(self, balance_nano: int) -> RunsOut | None:
        """Return when a balance is used up; None where not even the high forecast gets there."""
        earliest = self._day_of(self.high_nano, balance_nano)
        if earliest is None:
            return None
        likely = self._day_of(self.likely_nano, balance_nano)
        return RunsOut(earliest, likely, self._day_of(self.low_nano, balance_nano))

    def reached_this_month(self, left_nano: int) -> int | None:
        """Return the IST day on which so much more will likely be spent; None where the month ends before."""
        day = self._day_of(self.likely_nano, left_nano)
        is_in_time = day is not None and ist.month_of_day(day) == ist.month_of_day(self.today)
        return day if is_in_time else None

    def _day_of(self, totals: Sequence[int], amount_nano: int) -> int | None:
        return next((self.today + n for n, total in enumerate(totals) if total >= amount_nano), None)


def forecast(spent_nano: Mapping[int, int], now_ms: int, ahead_days: int = HORIZON_DAYS) -> Forecast | None:
    """Return what will be spent on so many days from today on, or None with a history of fewer than HISTORY_DAYS_LEAST days.

    `spent_nano` is what was debited by IST day, today up to `now_ms` included; a day that is not there cost nothing.
    The history begins with the first day there is, HISTORY_DAYS before today at the earliest, and ends yesterday.
    """
    today = ist.day_of(now_ms)
    first = max(min(spent_nano, default=today), today - HISTORY_DAYS)
    if today - first < HISTORY_DAYS_LEAST:
        return None
    usual = Usual([spent_nano.get(day, 0) for day in range(first, today)], first)
    so_far = _Today(spent_nano.get(today, 0), ist.day_end_ms(today) - now_ms)
    paths, stopping = usual.paths(), usual.stopping()
    ahead = range(today, today + ahead_days)
    within = [_days_of(path, usual, ahead) for path in paths]
    below = within if stopping is None else [*within, _days_of(stopping, usual, ahead)]
    spreads = [usual.spread_nano(days) for days in range(1, ahead_days + 1)]
    lows = zip(*(_totals(days, min(so_far.left_of(days[0]))) for days in below), strict=True)
    highs = zip(*(_totals(days, max(so_far.left_of(days[0]))) for days in within), strict=True)
    likely = _days_of(usual.likely(), usual, ahead)
    return Forecast(
        today,
        tuple(
            accumulate((max(min(low) - spread, 0) for low, spread in zip(lows, spreads, strict=True)), max)
        ),
        tuple(_totals(likely, sum(so_far.left_of(likely[0])) // 2)),
        tuple(max(high) + spread for high, spread in zip(highs, spreads, strict=True)),
    )


def _days_of(levels: Iterator[int], usual: Usual, days: range) -> list[int]:
    """Return what each of some IST days, from today on, costs on a path."""
    return [usual.of(day) * level // _SAME for day, level in zip(days, levels, strict=False)]


def _totals(days_nano: Sequence[int], left_of_today_nano: int) -> Iterator[int]:
    """Return the running totals of days, of the first of which so much is left."""
    return accumulate((left_of_today_nano, *days_nano[1:]))


def _mean_ahead(totals_nano: Sequence[int]) -> int:
    return (totals_nano[AHEAD_DAYS] - totals_nano[0]) // AHEAD_DAYS


class Usual:
    """What each weekday costs by a history of days, and the ways on from there.

    A path is the level of each day from today on, without end.
    """

    def __init__(self, days_nano: Sequence[int], first: int) -> None:
        """Take what was spent on consecutive IST days from `first` on, 3 to 28 of them: the last is yesterday."""
        self._days = days_nano
        self._first = first
        self._sum = sum(days_nano)
        self._weekdays = [self._weekday_mean(weekday) for weekday in range(_WEEK)]
        self._variance = self._variance_of_a_day()
        self._weights = self._weights_of_trend()

    def of(self, day: int) -> int:
        """Return what an IST day costs at the level of the history."""
        return self._weekdays[day % _WEEK]

    def paths(self) -> list[Iterator[int]]:
        """Return the paths that a forecast lies between: as before, as in the last week, and as the trend goes."""
        return [repeat(_SAME), repeat(self._level_of_last_week()), self._trend(*self._slope())]

    def likely(self) -> Iterator[int]:
        """Return the path of the trend, as far as it stands out from what days differ by chance.

        The part of a slope that is kept is 1 - (its variance / its square), as in the estimator of James and Stein
        (1961): a slope that may well be chance is left out.
        """
        lean, squares = self._lean()
        chance = self._variance * squares
        if lean * lean <= chance:
            return repeat(_SAME)
        slope, per = self._slope()
        return self._trend(slope * (lean * lean - chance), per * lean * lean)

    def stopping(self) -> Iterator[int] | None:
        """Return the path on which each week falls as the last one did, None where it did not fall clearly.

        Clearly is where six of its seven days cost less than the same weekday before (the sign test: by chance that
        comes once in 16 times), or where it fell by the standard deviation of the difference of two weeks times
        the square root of two.
        """
        before, last = self._days[-_TWO_WEEKS:-_WEEK], self._days[-_WEEK:]
        fall = sum(before) - sum(last)
        if len(before) < _WEEK or fall <= 0:
            return None
        cheaper = sum(now < then for then, now in zip(before, last, strict=True))
        if cheaper < _WEEK - 1 and fall * fall <= 2 * _TWO_WEEKS * self._variance:
            return None
        return self._falling_by_week(sum(last), sum(before))

    def spread_nano(self, days: int) -> int:
        """Return how far the total of so many days may lie from its path by chance, to either side.

        Its variance is that of the days ahead and of the mean they are told by. 80 % lie within: Student's t at 0.9,
        in thousandths, by its expansion in the degrees of freedom (Abramowitz and Stegun, 26.7.5).
        """
        count = len(self._days)
        free = count - 1
        within_milli = 1_282 + 847 // free + 572 // free**2
        if count < _TWO_WEEKS:
            # Weekdays are not known yet: the week ahead may be of others than those seen.
            within_milli = within_milli * 3 // 2
        variance = self._variance * days * (count + days) // count
        return isqrt(variance * within_milli**2) // 1_000

    def _weekday_mean(self, weekday: int) -> int:
        """Return what a weekday costs: the mean of its days and of one more that cost what all days do."""
        count = len(self._days)
        seen = [spent for day, spent in enumerate(self._days, self._first) if day % _WEEK == weekday]
        return (sum(seen) * count + self._sum) // (count * (len(seen) + 1))

    def _variance_of_a_day(self) -> int:
        """Return how much a day differs by chance: half the mean square of what it differs from a week before.

        In the first two weeks there is too little of that, and it is how much days differ from their mean.
        """
        days, count = self._days, len(self._days)
        if count < _TWO_WEEKS:
            return sum((day * count - self._sum) ** 2 for day in days) // (count**2 * (count - 1))
        changes = [day - before for before, day in zip(days, days[_WEEK:], strict=False)]
        return sum(change * change for change in changes) // (2 * len(changes))

    def _level_of_last_week(self) -> int:
        last = range(len(self._days))[-_WEEK:]
        usual = sum(self.of(self._first + at) for at in last)
        return sum(self._days[at] for at in last) * _SAME // usual if usual else _SAME

    def _weights_of_trend(self) -> list[int]:
        """Return the weight of each day in the slope: by how many half weeks it is later than the mean of its weekday.

        So a slope is of days against the same weekday, and no weekday pulls at it. Below two weeks there is none.
        """
        count = len(self._days)
        if count < _TWO_WEEKS:
            return [0] * count
        return [2 * (at // _WEEK) - (count - 1 - at % _WEEK) // _WEEK for at in range(count)]

    def _lean(self) -> tuple[int, int]:
        """Return the sum of the days by their weights, and that of the squares of the weights."""
        lean = sum(weight * day for weight, day in zip(self._weights, self._days, strict=True))
        return lean, sum(weight * weight for weight in self._weights)

    def _slope(self) -> tuple[int, int]:
        """Return by how much a day the level rises, least squares, as a fraction of the mean day: above and below the line."""
        lean, squares = self._lean()
        return 2 * lean * len(self._days), max(_WEEK * squares * self._sum, 1)

    def _trend(self, slope: int, per: int) -> Iterator[int]:
        """Yield the levels of a slope: the line up to today, from then on as much a day in proportion."""
        today = max(_SAME + _SAME * slope * (len(self._days) + 1) // (2 * per), 0)
        level, rise = today, _SAME * slope // per
        while True:
            yield level
            if level:
                level = min(max(level + level * rise // today, 0), _GROWTH_MAX * today)

    def _falling_by_week(self, last: int, before: int) -> Iterator[int]:
        level = self._level_of_last_week()
        while True:
            level = level * last // before
            yield from repeat(level, _WEEK)


class _Today(Struct, frozen=True):
    """Today, what has been spent on it, and how much of it is left."""

    spent_nano: int
    left_ms: int

    def left_of(self, day_nano: int) -> tuple[int, int]:
        """Return two guesses of what may still be spent of a day that costs so much in all.

        One is that it is spent by the clock, the other that the day becomes like its weekday at whatever hour.
        """
        return day_nano * self.left_ms // ist.DAY_MS, max(day_nano - self.spent_nano, 0)
