"""Many orgs answered from one read: each gets its own answer, all of it and up to the last row."""

from __future__ import annotations

import asyncio
import random
from datetime import date

import msgspec
import pytest

from pipeline.api.routes.activity import KEYS
from pipeline.api.services.coalesced_reads import ORGS_A_READ, CoalescedReads
from pipeline.clickhouse.client import Engine
from pipeline.clickhouse.errors import EngineError
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.journal import public_id
from tests.support.builders import NOW_MS
from tests.support.journal_rows import insert, random_requests, request

ODD_ORGS = (
    "plain",
    "it's",
    'a "quote"',
    "tab\there",
    "line\nfeed",
    "back\\slash",
    "हिन्दी 🙂",
    "['x']",
    "a, b",
    'ends with "',
)
RANGE = {"from_day": date(2026, 5, 1), "to_day": date(2026, 6, 30)}
UNFILTERED = {"model": "", "key_id": "", "provider": ""}


@pytest.fixture
def orgs(engine: Engine) -> list[str]:
    """Orgs with rows of their own, some with names that would break a careless split."""
    named = [*ODD_ORGS, *(f"org_{n}" for n in range(2 * ORGS_A_READ))]
    insert(engine, random_requests(seed=9, count=1_500, orgs=tuple(named), days=30))
    return named


async def test_every_org_gets_what_it_gets_alone(engine: Engine, orgs: list[str]) -> None:
    for name, more in (("usage", {}), ("usage_daily", {}), ("activity", UNFILTERED)):
        values = {**RANGE, **more}
        reads = CoalescedReads(engine)
        asked = [reads.ask(query(name), OrgScope(org), **values) for org in (*orgs, "none")]
        *answers, none = [sorted(lines) for lines in await asyncio.gather(*asked)]
        assert none == []
        assert all(answers)
        for org, answer in list(zip(orgs, answers, strict=True))[: len(ODD_ORGS) + 4]:
            assert answer == sorted(await CoalescedReads(engine).ask(query(name), OrgScope(org), **values))


async def test_different_questions_never_share_an_answer(engine: Engine, orgs: list[str]) -> None:
    reads, draw = CoalescedReads(engine), random.Random(3)

    async def ask(org: str, to_day: date) -> None:
        days = {"from_day": date(2026, 5, 1), "to_day": to_day}
        lines = await reads.ask(query("activity"), OrgScope(org), **days, **UNFILTERED)
        rows = [msgspec.json.decode(line) for line in lines]
        keys = {row["key_id"] for row in rows if row["kind"] == KEYS}
        assert all(key.startswith(f"{org}_key_") for key in keys)
        assert all(row["day"] <= to_day.isoformat() for row in rows)

    days = [date(2026, 6, day) for day in (1, 5, 9, 12)]
    await asyncio.gather(*(ask(draw.choice(orgs), draw.choice(days)) for _ in range(60)))


async def test_an_answer_is_never_older_than_its_question(engine: Engine) -> None:
    reads = CoalescedReads(engine)
    scope, done = OrgScope("org_a"), asyncio.Event()

    async def keep_busy() -> None:
        while not done.is_set():
            await reads.ask(query("usage"), scope, **RANGE)

    others = [asyncio.create_task(keep_busy()) for _ in range(4)]
    for n in range(1, 6):
        row = request(id=public_id(0, n), org="org_a", at_ms=NOW_MS)
        await asyncio.to_thread(insert, engine, [row])
        (line,) = await reads.ask(query("usage"), scope, **RANGE)
        assert msgspec.json.decode(line)["requests"] == n
    done.set()
    await asyncio.gather(*others)


async def test_who_leaves_takes_nothing_from_the_others(engine: Engine, orgs: list[str]) -> None:
    reads, scope = CoalescedReads(engine), OrgScope(orgs[0])
    leaves = asyncio.create_task(reads.ask(query("usage"), scope, **RANGE))
    stays = asyncio.create_task(reads.ask(query("usage"), scope, **RANGE))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays
    assert leaves.cancelled()


async def test_a_failure_reaches_everyone_and_ends_nothing(session_engine: Engine, engine: Engine) -> None:
    reads = CoalescedReads(session_engine.for_database("never_made"))
    asked = [reads.ask(query("usage"), OrgScope(f"org_{n}"), **RANGE) for n in range(40)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {EngineError}
    with pytest.raises(EngineError):
        await reads.ask(query("usage"), OrgScope("org_a"), **RANGE)
    with pytest.raises(TypeError):
        await CoalescedReads(engine).ask(query("rankings"), OrgScope("org_a"), **RANGE)
