"""The forecast on histories whose future is known: how often the true day lies between earliest and latest.

Owns: the made-up orgs, and the demo's, as days of spending; the table. No parts are started.
Called by: `bench/__main__.py`. What is tried is `pipeline/forecast.py`.

A case is an org, an instant of one of its days, and a balance of 2 to 90 mean days. The org goes on spending until
the balance is used up: that is the true day. It may be never, and then only an open latest day is right.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from bench.report import Report, percentile
from pipeline import ist
from pipeline.demo.figures import cost_of_event
from pipeline.demo.platform import ORGS
from pipeline.demo.seeding import catalog, table_of
from pipeline.demo.traffic import DAYS, history
from pipeline.forecast import HORIZON_DAYS, forecast

SEED = "forecasts of release 0.2"
CASES, CASES_FULL = 100, 400
DEMO_SEEDS, DEMO_SEEDS_FULL = 1, 4
AIM_PERCENT = 80
DEMO_MONTHS = 3

_FIRST_DAY = ist.day_of(1_781_289_000_000)
_HISTORY = 35
_FUTURE = HORIZON_DAYS + 10
_OFFICE_HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 20, 52, 86, 96, 90, 62, 74, 95, 100, 92, 74, 46, 28, 18, 9, 4)
_WEEKS = (
    (100,) * 7,
    (100, 100, 100, 100, 95, 40, 30),
    (100, 100, 100, 100, 100, 15, 5),
    (70, 70, 75, 70, 80, 100, 100),
)


@dataclass(frozen=True)
class Case:
    """An instant in an org's spending, in nano-rupees by the hour of each IST day, and the balance it then has.

    `days` begin with the day `first`; the instant is the beginning of `hour` on the day `today`.
    """

    days: list[list[int]]
    first: int
    today: int
    hour: int
    balance_nano: int

    @property
    def now_ms(self) -> int:
        """The instant."""
        return ist.day_start_ms(self.today) + self.hour * ist.DAY_MS // 24

    def known(self) -> dict[int, int]:
        """Return what is known at the instant: spending by day."""
        past = self.days[: self.today - self.first]
        spent = {day: sum(hours) for day, hours in enumerate(past, self.first)}
        return spent | {self.today: sum(self._hours(self.today)[: self.hour])}

    def true_day(self) -> int | None:
        """Return the day on which the balance is used up, None where that is after all days there are."""
        left = self.balance_nano
        for day in range(self.today, self.first + len(self.days)):
            left -= sum(self._hours(day)[self.hour if day == self.today else 0 :])
            if left <= 0:
                return day
        return None

    def _hours(self, day: int) -> list[int]:
        return self.days[day - self.first]


Levels = Callable[[Random], Iterator[float]]
"""How busy an org is from day to day: a factor on all weekdays. Day `_HISTORY` is the one it is asked on."""


def _steady(_random: Random) -> Iterator[float]:
    while True:
        yield 1.0


def _growing(random: Random) -> Iterator[float]:
    """Grow by 1 to 8 % a week, until two months after the instant."""
    day_factor, level = 1 + random.uniform(0.01, 0.08) / 7, 1.0
    for _ in range(_HISTORY + 60):
        yield level
        level *= day_factor
    while True:
        yield level


def _shrinking(random: Random) -> Iterator[float]:
    """Lose 1 to 8 % a week."""
    day_factor, level = 1 - random.uniform(0.01, 0.08) / 7, 1.0
    while True:
        yield level
        level *= day_factor


def _drifting(random: Random) -> Iterator[float]:
    """Wander: each day up or down by 1 to 4 % of itself."""
    step, level = random.uniform(0.01, 0.04), 1.0
    while True:
        yield level
        level *= math.exp(random.gauss(0, step))


def _bursty(random: Random) -> Iterator[float]:
    """Have one day in 5 to 20 that costs 3 to 12 times as much."""
    share, times = random.uniform(0.05, 0.2), random.uniform(3, 12)
    while True:
        yield times if random.random() < share else 1.0


def _stepping(random: Random) -> Iterator[float]:
    """Spend much more or less from a day on that was 3 to 20 days before."""
    before, times = _HISTORY - random.randint(3, 20), random.choice((0.4, 0.6, 1.6, 2.5))
    for _ in range(before):
        yield 1.0
    while True:
        yield times


def _stopped(random: Random) -> Iterator[float]:
    """Spend nothing any more from a day on that was 1 to 20 days before."""
    for _ in range(_HISTORY - random.randint(1, 20)):
        yield 1.0
    while True:
        yield 0.0


def _stopping(random: Random) -> Iterator[float]:
    """Lose 5 to 25 % a day, from a day on that was 3 to 20 days before."""
    day_factor, level = 1 - random.uniform(0.05, 0.25), 1.0
    for _ in range(_HISTORY - random.randint(3, 20)):
        yield 1.0
    while True:
        yield level
        level *= day_factor


def _stopping_later(random: Random) -> Iterator[float]:
    """Spend nothing any more from a day on that is 1 to 30 days ahead."""
    for _ in range(_HISTORY + random.randint(1, 30)):
        yield 1.0
    while True:
        yield 0.0


KINDS: dict[str, tuple[Levels, bool]] = {
    "steady, all days alike": (_steady, False),
    "steady, weekdays and weekends": (_steady, True),
    "growing, 1 to 8 % a week": (_growing, True),
    "shrinking, 1 to 8 % a week": (_shrinking, True),
    "drifting": (_drifting, True),
    "bursty": (_bursty, True),
    "much more or less for 3 to 20 days": (_stepping, True),
    "new, 3 to 13 days old": (_drifting, True),
    "stopping, 5 to 25 % less a day for 3 to 20 days": (_stopping, True),
    "stopped 1 to 20 days before": (_stopped, True),
    "stopping in 1 to 30 days": (_stopping_later, True),
}
"""Made-up orgs: how their level goes, and whether they have weekdays."""
UNKNOWABLE = "stopping in 1 to 30 days"
"""What nothing in the history tells: it is shown, and not asked for."""


def made_up(kind: str, number: int) -> Case:
    """Return a case of a kind of org, always the same for a number."""
    random = Random(f"{SEED}/{kind}/{number}")
    levels, has_weekdays = KINDS[kind]
    week = random.choice(_WEEKS) if has_weekdays else _WEEKS[0]
    mean_nano, noise = random.uniform(1, 500) * 10**9, random.uniform(0.05, 0.35)
    days, level, turn = [], levels(random), random.randrange(7)
    for day in range(_HISTORY + _FUTURE):
        busy = next(level) * week[(day + turn) % 7] / 100
        by_chance = math.exp(random.gauss(-noise * noise / 2, noise))
        days.append(_by_hour(int(mean_nano * busy * by_chance)))
    seen = random.randint(3, 13) if kind.startswith("new") else _HISTORY
    return _case(random, days[_HISTORY - seen :], _FIRST_DAY, seen, 90)


def demo_cases(seed: int) -> Iterator[tuple[str, Case]]:
    """Yield cases of each org of the demo, by the days that its generator makes with a seed."""
    ends_ms = [ist.day_end_ms(_FIRST_DAY + DAYS * (month + 1) - 1) - 1 for month in range(DEMO_MONTHS)]
    rates = table_of(catalog(ends_ms[0]))
    spent: dict[str, list[list[int]]] = defaultdict(lambda: [[0] * 24 for _ in range(DAYS * DEMO_MONTHS)])
    for end_ms in ends_ms:
        for batch in history(seed, end_ms, rates):
            for event in batch.events:
                cost_nano, at_ms = cost_of_event(event["data"], event["time"], rates)
                day, hour = divmod((at_ms - ist.day_start_ms(_FIRST_DAY)) * 24 // ist.DAY_MS, 24)
                spent[batch.org][day][hour] += cost_nano
    for org in ORGS:
        random = Random(f"{SEED}/{seed}/{org.org}")
        for seen in range(28, 56):
            yield f"demo, {org.name}", _case(random, spent[org.org], _FIRST_DAY, seen, 25)


def _by_hour(day_nano: int) -> list[int]:
    hours = [day_nano * weight // sum(_OFFICE_HOURS) for weight in _OFFICE_HOURS]
    return [*hours[:-1], day_nano - sum(hours[:-1])]


def _case(random: Random, days: list[list[int]], first: int, seen: int, days_max: int) -> Case:
    """Return a case on day number `seen` of an org, with a balance of 2 to `days_max` mean days."""
    past = days[max(seen - 28, 0) : seen]
    mean_nano = sum(map(sum, past)) // len(past)
    lasts = math.exp(random.uniform(math.log(2), math.log(days_max)))
    return Case(days, first, first + seen, random.randrange(24), max(int(mean_nano * lasts), 1))


@dataclass
class Tally:
    """What came of the cases of one kind: how many, where the true day lay, and how wide the intervals were."""

    cases: int = 0
    sooner: int = 0
    later: int = 0
    open: int = 0
    widths: list[float] = field(default_factory=list)
    """Days from the earliest to the latest by days to the true one, both counted with their ends."""
    errors: list[float] = field(default_factory=list)
    """Days between the likely and the true one, by the same."""

    @property
    def within_percent(self) -> float:
        """In how many of 100 cases the true day lay within."""
        return 100 * (self.cases - self.sooner - self.later) / self.cases

    def take(self, case: Case) -> None:
        """Forecast a case and see what comes."""
        made = forecast(case.known(), case.now_ms)
        assert made is not None
        told, true_day = made.runs_out(case.balance_nano), case.true_day()
        earliest, latest = (told.earliest, told.latest) if told else (None, None)
        self.cases += 1
        self.open += latest is None
        if true_day is None:
            self.later += latest is not None
            return
        self.sooner += earliest is None or true_day < earliest
        self.later += latest is not None and true_day > latest
        days = true_day - case.today + 1
        if earliest is not None and latest is not None:
            self.widths.append((latest - earliest + 1) / days)
        if told is not None and told.likely is not None:
            self.errors.append(abs(told.likely - true_day) / days)


async def forecasts(*, full: bool) -> Report:
    """Try the forecast on all histories; the notes say where the aim is not met."""
    tallies = {kind: Tally() for kind in KINDS}
    for kind, tally in tallies.items():
        for number in range(CASES_FULL if full else CASES):
            tally.take(made_up(kind, number))
    for seed in range(DEMO_SEEDS_FULL if full else DEMO_SEEDS):
        for name, case in demo_cases(seed):
            tallies.setdefault(name, Tally()).take(case)
    report = Report(
        "p",
        "the day a balance is used up, as forecast and as it came",
        ("org", "cases", "within %", "sooner %", "later %", "no latest day %", "width %", "likely off by %"),
    )
    for kind, tally in tallies.items():
        shares = (100 * each / tally.cases for each in (tally.sooner, tally.later, tally.open))
        middles = (_middle(each) for each in (tally.widths, tally.errors))
        report.add(kind, tally.cases, tally.within_percent, *shares, *middles)
    report.notes.append(
        "Within: earliest <= true day <= latest. No latest day: it may last longer than a year. Width: days from "
        "earliest to latest by days to the true day, at the median; likely off by: the same for the error."
    )
    missed = [k for k, t in tallies.items() if t.within_percent < AIM_PERCENT and k != UNKNOWABLE]
    report.notes.append(f"The aim is {AIM_PERCENT} % within; not met: {', '.join(missed) or 'nowhere'}.")
    return report


def _middle(shares: list[float]) -> float | None:
    return 100 * percentile(shares, 0.5) if shares else None
