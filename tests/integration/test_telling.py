"""Which hours orgs are told of, from the rows of the real engine. The accounts' owners are played by a list.

That an owner tells of each thing once is in tests/unit/accounts/test_telling.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline import ist
from pipeline.accounts.commands import TellUnusualHour
from pipeline.clickhouse.client import Engine
from pipeline.kafka.commands import UnavailableError
from pipeline.telling.unusual_hours import SETTLE_MS, UnusualHours
from pipeline.unusual import HOUR_MS, WEEK_MS
from tests.support.builders import NOW_MS
from tests.support.journal_rows import Request, insert, request

RUPEE = 10**9
HOUR = NOW_MS + 10 * HOUR_MS
"""A whole IST hour: NOW_MS is the first instant of an IST day."""


@dataclass
class Owners:
    """Those that were asked, in order; `away` ones do not answer."""

    asked: list[TellUnusualHour] = field(default_factory=list)
    away: set[str] = field(default_factory=set)

    async def send(self, command: TellUnusualHour, /) -> object:
        """Note a command."""
        if command.org in self.away:
            raise UnavailableError("away")
        self.asked.append(command)
        return None


def _hours(org: str, rupees: int, *weeks_ago: int, start: int, **more: object) -> list[Request]:
    """Return ten requests that together cost so much in the hour, in each of some weeks."""
    return [
        request(
            (start + 10 * n + number) * 1024 + 1,
            org,
            HOUR - weeks * WEEK_MS + number * 300_000,
            cost_nano=rupees * RUPEE // 10,
            **more,
        )
        for n, weeks in enumerate(weeks_ago)
        for number in range(10)
    ]


async def test_an_org_whose_hour_stands_out_is_told_of_with_the_key_and_the_model(engine: Engine) -> None:
    rows = [
        *_hours("org_a", 200, 1, 2, 3, 4, start=100, key_id="steady"),
        *_hours("org_a", 210, 0, start=200, key_id="steady"),
        *_hours("org_a", 900, 0, start=300, key_id="loop", model="dear"),
        *_hours("org_b", 1_000, 0, 1, 2, 3, 4, start=400),
        *_hours("org_c", 99, 0, start=500),
    ]
    # Another hour of the same days and the same hour of another day say nothing about this one.
    rows += [
        request((600 + n) * 1024 + 1, "org_a", at_ms, cost_nano=10**15)
        for n, at_ms in enumerate((HOUR - 1, HOUR + HOUR_MS, HOUR - ist.DAY_MS, HOUR - WEEK_MS - 1))
    ]
    insert(engine, rows)
    owners, now = Owners(), [HOUR + HOUR_MS + SETTLE_MS - 1]
    hours = UnusualHours(owners, engine, lambda: now[0])
    await hours.turn()
    assert [each for each in owners.asked if each.hour_ms == HOUR] == []
    owners.asked.clear()
    now[0] += 1
    owners.away = {"org_a"}
    await hours.turn()
    owners.away = set()
    for _ in range(3):
        await hours.turn()
    [told] = owners.asked
    assert (told.org, told.hour_ms, told.key_id, told.model) == ("org_a", HOUR, "loop", "dear")
    assert (told.cost_nano, told.usual_nano) == (1_110 * RUPEE, 200 * RUPEE)
