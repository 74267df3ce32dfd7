"""When an hour costs many times what that hour of the week usually does, and what stands out in it.

Owns: the rule. Pure: amounts in nano-rupees, instants in milliseconds.
Called by: `telling/unusual_hours.py`, with what the database says of an org.

An hour is compared with the same hour of the four weeks before, as traffic of people and of their programs goes by the day of
the week and the hour. It is unusual where it cost five times the average of these or more. Below a hundred rupees nothing is
unusual, so an org that pays pennies is never told, and one that pays nothing at night is told of a night that costs a lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ist import DAY_MS
from pipeline.money import NANO_PER_RUPEE

HOUR_MS = 3_600_000
WEEK_MS = 7 * DAY_MS
WEEKS = 4
TIMES = 5
AT_LEAST_NANO = 100 * NANO_PER_RUPEE
"""What an hour has to cost to be looked at."""


@dataclass(frozen=True)
class HourCost:
    """What the requests of a key with a model cost in the hour, and in the same hour of the weeks before together."""

    key_id: str
    model: str
    cost_nano: int
    before_nano: int


@dataclass(frozen=True)
class Outlier:
    """An unusual hour: its cost, the usual one, and the key and model that cost most beyond what they usually do."""

    cost_nano: int
    usual_nano: int
    key_id: str
    model: str


def last_hour_ms(now_ms: int, settle_ms: int) -> int:
    """Return the beginning of the last IST hour that has been over for `settle_ms`. IST hours begin at half past by UTC."""
    half = HOUR_MS // 2
    return (now_ms - settle_ms - half) // HOUR_MS * HOUR_MS + half - HOUR_MS


def outlier(costs: Sequence[HourCost]) -> Outlier | None:
    """Return what is unusual about an hour by what each key and model cost in it and before; None where nothing is."""
    cost_nano = sum(each.cost_nano for each in costs)
    before_nano = sum(each.before_nano for each in costs)
    if cost_nano < AT_LEAST_NANO or cost_nano * WEEKS < TIMES * before_nano:
        return None
    most = max(costs, key=lambda each: (each.cost_nano * WEEKS - each.before_nano, each.key_id, each.model))
    return Outlier(cost_nano, before_nano // WEEKS, most.key_id, most.model)
