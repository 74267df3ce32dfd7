"""What the requests of an org cost on each IST day of posting, from the roll-up by day of posting.

Owns: between which ids the rows of a day are, and the shapes of what is read of the roll-ups. Called by: `api/services/history.py`.

The ids of an org's rows rise with the time of posting, so those of a day follow on those of the day before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from msgspec import Struct

from pipeline import ist
from pipeline.api.http.parameters import BEFORE_MAX
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.statements import Debit

ANY_DAY = date(2149, 6, 6)
"""The last that the engine has."""


class PostedDay(Struct, array_like=True, frozen=True):
    """What requests cost that were posted on an IST day, in nano-rupees, and the highest of their ids."""

    day: date
    debits_nano: int
    last_id: int

    @property
    def number(self) -> int:
        """The day as `ist.day_of` counts them."""
        return ist.day_of_date(self.day)


class DaySums(Debit, array_like=True, frozen=True):
    """What requests of an IST day, model, key and provider cost, whenever they were charged, and the highest of their ids."""

    last_id: int


@dataclass(frozen=True)
class PostedDays:
    """Days on which requests of an org were posted, oldest first. All rows before `complete_ms` are in the database."""

    days: list[PostedDay]
    complete_ms: int

    def debits_nano(self, first: int, below: int) -> int:
        """Return what requests cost that were posted on the days from one up to before another."""
        return sum(day.debits_nano for day in self.days if first <= day.number < below)

    def ids(self, number: int) -> tuple[int, int]:
        """Return the first and the last id that rows of a day may have: a range that is empty or has all rows of the day.

        Where more of them may come, it ends with the highest id there is.
        """
        before = max((day.last_id for day in self.days if day.number < number), default=0)
        is_over = self._is_over(number) or any(day.number > number for day in self.days)
        last = max((day.last_id for day in self.days if day.number <= number), default=0)
        return before + 1, last if is_over else BEFORE_MAX - 1

    def _is_over(self, number: int) -> bool:
        return ist.day_end_ms(number) <= self.complete_ms


async def read_posted_days(engine: Engine, scope: OrgScope, last: int, complete_ms: int) -> PostedDays:
    """Return an org's days up to an IST day. All rows before `complete_ms` are in the database.

    Where that day is not known to be over, later ones are read too: they show where it ends. Raises what the engine raises.
    """
    to_day = ist.date_of(last) if ist.day_end_ms(last) <= complete_ms else ANY_DAY
    bound = query("posted_days").of_org(scope, to_day=to_day.isoformat())
    return PostedDays(await engine.async_query(bound.sql, bound.parameters, row=PostedDay), complete_ms)
