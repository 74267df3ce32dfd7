"""The sums of days that are over, of an org whose requests take longer to read than a question may, over the real engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import pytest

from pipeline import ist
from pipeline.api.http.errors import ApiError
from pipeline.api.services.posted_days import PostedDay, PostedDays
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.queries import OrgScope
from pipeline.journal import public_id
from pipeline.outcomes import RefusalCode
from tests.support.builders import NOW_MS
from tests.support.journal_rows import insert, request

SCOPE = OrgScope("org_a")
TODAY = ist.day_of(NOW_MS)
COSTS_NANO = {TODAY - 40: 7, TODAY - 2: 11, TODAY - 1: 13, TODAY: 17}
LAST_OVER = TODAY - 1


class Slow:
    """The engine, which reads too much for an answer: only scans are carried out, once they are let."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.let = asyncio.Event()
        self.asked: Counter[str] = Counter()

    async def async_query(self, *arguments: Any, settings: Any = None, **more: Any) -> Any:
        self.asked["scan" if settings else "read"] += 1
        if not settings:
            raise EngineUnavailable("Timeout exceeded")
        await self.let.wait()
        return await self.engine.async_query(*arguments, settings=settings, **more)


@pytest.fixture
def charged(engine: Engine) -> Engine:
    days = enumerate(COSTS_NANO.items(), start=1)
    insert(
        engine,
        [
            request(public_id(0, at), "org_a", posted_ms, posted_ms=posted_ms, cost_nano=cost_nano)
            for at, (day, cost_nano) in days
            for posted_ms in [ist.day_start_ms(day)]
        ],
    )
    return engine


def costs_nano(days: list[PostedDay]) -> dict[int, int]:
    return {day.number: day.debits_nano for day in days}


async def test_whoever_asks_too_early_is_told_so_and_what_was_begun_is_done_once(charged: Engine) -> None:
    slow = Slow(charged)
    days = PostedDays(cast("Engine", slow), first_limit_s=0.05)
    answers = await asyncio.gather(
        *(days.up_to(SCOPE, LAST_OVER, NOW_MS) for _ in range(3)), return_exceptions=True
    )
    assert [cast("ApiError", each).code for each in answers] == [RefusalCode.UNAVAILABLE] * 3
    slow.let.set()
    patient = PostedDays(cast("Engine", slow))
    found = await patient.up_to(SCOPE, LAST_OVER, NOW_MS)
    while days._summing:
        await asyncio.sleep(0.01)
    assert await days.up_to(SCOPE, LAST_OVER, NOW_MS) == found
    assert costs_nano(found) == {day: cost for day, cost in COSTS_NANO.items() if day <= LAST_OVER}
    assert slow.asked == {"read": 2, "scan": 2}


async def test_later_only_newer_rows_are_read(charged: Engine) -> None:
    days = PostedDays(charged)
    assert costs_nano(await days.up_to(SCOPE, TODAY, NOW_MS)) == COSTS_NANO
    charged.command("ALTER TABLE events DELETE WHERE cost_nano < 17 SETTINGS mutations_sync = 2")
    assert costs_nano(await days.up_to(SCOPE, TODAY, NOW_MS)) == COSTS_NANO
    assert costs_nano(await days.up_to(SCOPE, TODAY - 2, NOW_MS)) == {TODAY - 40: 7, TODAY - 2: 11}


async def test_an_engine_that_is_away_is_told_of_and_asked_again() -> None:
    class Away:
        async def async_query(self, *_: Any, **__: Any) -> Any:
            raise EngineUnavailable("away")

    days = PostedDays(cast("Engine", Away()))
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            await days.up_to(SCOPE, LAST_OVER, NOW_MS)
    assert not days._summing
