"""How the days of a what-if are read: some pieces at a time, in turns with those of others. The sums: tests/integration/test_api_whatif.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

import pytest

from pipeline.api.http.parameters import Range
from pipeline.api.routes import whatif
from pipeline.api.services.context import AppContext
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineUnavailable
from pipeline.clickhouse.queries import OrgScope
from pipeline.clickhouse.shards import Shards
from tests.support.builders import rate_table

YEAR = Range(date(2025, 6, 13), date(2026, 6, 13))
MONTH = Range(date(2026, 6, 1), date(2026, 6, 13))


@dataclass
class Answering:
    """An engine that answers each query with its days a moment later, and fails for one of them."""

    failing: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def async_query(self, _sql: str, parameters: dict[str, Any], **_how: object) -> list[Any]:
        """Return the first day alone."""
        self.asked.append((parameters["org"], parameters["from_day"]))
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.now -= 1
        if parameters["from_day"] == self.failing:
            raise EngineUnavailable("away")
        return [parameters["from_day"]]


def _context(engine: Answering) -> AppContext:
    return AppContext(
        database=Shards([cast(Engine, engine)]),
        key_names={},
        rates=rate_table(),
        session_secret="s" * 32,
        now_ms=lambda: 0,
    )


async def test_a_year_is_read_some_months_at_a_time_and_each_day_once() -> None:
    engine, turns = Answering(), asyncio.Semaphore(whatif.AT_ONCE)
    found = await whatif._groups(_context(engine), OrgScope("org_1"), YEAR, turns)
    assert len(found) == 12 and len(set(found)) == 12
    assert engine.most == whatif.AT_ONCE > 1


async def test_a_month_is_not_behind_all_of_anothers_year() -> None:
    engine, turns = Answering(), asyncio.Semaphore(whatif.AT_ONCE)
    context = _context(engine)
    year = asyncio.create_task(whatif._groups(context, OrgScope("org_1"), YEAR, turns))
    await asyncio.sleep(0)
    await whatif._groups(context, OrgScope("org_2"), MONTH, turns)
    assert engine.asked.index(("org_2", "2026-06-01")) <= 2 * whatif.AT_ONCE
    assert not year.done()
    await year
    assert engine.most == whatif.AT_ONCE


async def test_where_a_piece_fails_no_other_is_begun() -> None:
    engine, turns = Answering(failing="2025-06-13"), asyncio.Semaphore(whatif.AT_ONCE)
    with pytest.raises(EngineUnavailable):
        await whatif._groups(_context(engine), OrgScope("org_1"), YEAR, turns)
    await asyncio.sleep(0.05)
    assert len(engine.asked) <= 2 * whatif.AT_ONCE
    assert not turns.locked()
