"""(f) The answers on a year of events, while more are inserted.

Owns: filling the real schema with a year of believable rows, and timing the product's own queries.
Called by: `bench/__main__.py`.

The rows are made by the engine itself, a month a statement; the roll-ups are made by the schema's own
views. One org of 5,000 has a tenth of all rows. What is timed is the query as the API binds it, from the
call to its bytes, four at a time.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta

from bench.report import Report, percentile
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.queries import Bound, OrgScope, query
from pipeline.journal import REQUEST_COLUMNS

ORGS, LARGE_ORG = 5_000, "org_0"
LAST_DAY = date(2026, 6, 30)
FIRST_DAY = LAST_DAY - timedelta(days=365)
ID_STEP = 1024
AT_ONCE = 4
NEWEST_RID = 9007199254740991

Ask = Callable[[random.Random], Bound]

_ROWS = """
INSERT INTO events ({columns})
SELECT
    (number + 1) * 1024 AS id,
    if(number % 10 = 0, 'org_0', concat('org_', toString(cityHash64(number) % {orgs}))) AS org,
    {first_ms} + intDiv(number * {span_ms}, {events}) AS at_ms, at_ms AS posted_ms,
    'gateway/bench' AS source, toString(number) AS event_id,
    concat(org, '_key_', toString(cityHash64(number, 1) % 5)) AS key_id,
    'standard' AS tier, 0 AS byok,
    concat('model-', toString((cityHash64(org) + cityHash64(number, 2) % 10) % 40)) AS model,
    concat('provider-', toString(cityHash64(number, 3) % 3)) AS provider,
    if(cityHash64(number, 4) % 50 = 0, 500, 200) AS status, '' AS error_code,
    toUInt32(300 + cityHash64(number, 5) % 4000) AS latency_ms, 120 AS ttft_ms, 1 AS stream,
    toUInt32(200 + cityHash64(number, 6) % 1800) AS prompt_tokens, toUInt32(50) AS cached_tokens,
    toUInt32(20 + cityHash64(number, 7) % 700) AS completion_tokens, 0 AS reasoning_tokens,
    toInt64(prompt_tokens * 12500 + completion_tokens * 50000) AS cost_nano, 1 AS rate_from_ms
FROM numbers({start}, {count})
"""


def fill(engine: Engine, events: int) -> None:
    """Insert `events` rows over a year, in the order of their ids."""
    first_ms = int((FIRST_DAY - date(1970, 1, 1)).total_seconds() * 1000)
    step = max(1, min(events // 12, 2_000_000))
    for start in range(0, events, step):
        engine.command(
            _ROWS.format(
                columns=", ".join(REQUEST_COLUMNS),
                orgs=ORGS,
                first_ms=first_ms,
                span_ms=365 * 86_400_000,
                events=events,
                start=start,
                count=min(step, events - start),
            )
        )


def questions(events: int) -> dict[str, Ask]:
    """Return what is asked: each draws its own parameters."""

    def any_org(draw: random.Random) -> OrgScope:
        return OrgScope(f"org_{draw.randrange(ORGS)}")

    def activity(scope: OrgScope, days: int) -> Bound:
        first = LAST_DAY - timedelta(days=days - 1)
        return query("activity").of_org(scope, from_day=first, to_day=LAST_DAY, model="", key_id="")

    def page(draw: random.Random, scope: OrgScope) -> Bound:
        rid = NEWEST_RID - draw.randrange(1, events) * ID_STEP
        return query("events_page").of_org(
            scope, from_rid=rid, from_day=FIRST_DAY, to_day=LAST_DAY, model="", key_id="", rows=51
        )

    def last(days: int) -> date:
        return LAST_DAY - timedelta(days=days - 1)

    large = OrgScope(LARGE_ORG)
    return {
        "activity, 366 days, the large org": lambda _: activity(large, 366),
        "activity, 366 days, any org": lambda draw: activity(any_org(draw), 366),
        "activity, 30 days, any org": lambda draw: activity(any_org(draw), 30),
        "events page, any depth, the large org": lambda draw: page(draw, large),
        "events page, any depth, any org": lambda draw: page(draw, any_org(draw)),
        "usage, any org": lambda draw: query("usage").of_org(
            any_org(draw), from_day=last(30), to_day=LAST_DAY
        ),
        "rankings, computed": lambda _: query("rankings").of_platform(
            from_day=last(30), recent_day=last(7), to_day=LAST_DAY
        ),
    }


async def _ask_for(engine: Engine, ask: Ask, seconds: float) -> tuple[list[float], float]:
    """Ask for some seconds, AT_ONCE at a time; return each answer's milliseconds, and the seconds it took."""
    took_ms: list[float] = []
    started = time.perf_counter()

    async def one(seed: int) -> None:
        draw = random.Random(seed)
        while time.perf_counter() - started < seconds:
            bound, at = ask(draw), time.perf_counter()
            await engine.async_bytes(bound.sql, bound.parameters, output="TSVRaw")
            took_ms.append((time.perf_counter() - at) * 1000)

    await asyncio.gather(*(one(seed) for seed in range(AT_ONCE)))
    return took_ms, time.perf_counter() - started


async def _insert_on(engine: Engine, events: int, inserted: list[int]) -> None:
    """Insert 2,000 rows at a time, four times a second, until cancelled."""
    first_ms = int((LAST_DAY - date(1970, 1, 1)).total_seconds() * 1000)
    start = events
    while True:
        sql = _ROWS.format(
            columns=", ".join(REQUEST_COLUMNS),
            orgs=ORGS,
            first_ms=first_ms - start,
            span_ms=1,
            events=1,
            start=start,
            count=2_000,
        )
        await asyncio.to_thread(engine.command, sql)
        start += 2_000
        inserted[0] += 2_000
        await asyncio.sleep(0.25)


async def answers(*, events: int, full: bool) -> Report:
    """(f) Answers on `events` events over a year, with inserts beside them."""
    report = Report(
        "f",
        f"answers on {events:,} events over a year, {ORGS:,} orgs, inserts beside them",
        ("answer", "p50 ms", "p99 ms", "answers/s", "answers"),
    )
    home = tempfile.mkdtemp(prefix="metering-bench-")
    engine = open_engine(f"chdb://{home}")
    try:
        await asyncio.to_thread(migrate, engine)
        await asyncio.to_thread(fill, engine, events)
        inserted, began = [0], time.perf_counter()
        inserting = asyncio.create_task(_insert_on(engine, events, inserted))
        for name, ask in questions(events).items():
            took_ms, seconds = await _ask_for(engine, ask, 20 if full else 3)
            report.add(
                name,
                percentile(took_ms, 0.5),
                percentile(took_ms, 0.99),
                len(took_ms) / seconds,
                len(took_ms),
            )
        inserting.cancel()
        await asyncio.wait([inserting])
        report.notes.append(f"{inserted[0] / (time.perf_counter() - began):,.0f} rows/s inserted meanwhile.")
    finally:
        engine.close()
        shutil.rmtree(home, ignore_errors=True)
    return report
