"""(f) The answers on a year of events, while more are inserted.

Owns: what is asked, and timing it both at the engine's door and over HTTP.
Called by: `bench/__main__.py`. Next: `bench/year.py`, `bench/asking.py`.

The process is the product's server without Kafka: the engine, the API on a socket, and inserts as the sink
makes them. At the engine's door an answer is timed from the call that the API makes to its bytes. Over HTTP
the askers are another process, on connections that stay open.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import uvicorn

from bench.asking import Asked, HttpRequest, ask_http
from bench.report import Report, percentile
from bench.year import (
    ID_STEP,
    LARGE_ORG,
    MODELS,
    ORGS,
    NewerRows,
    fill,
    last_number,
    newest_ms,
    roll_up_rows,
)
from pipeline.api.http.parameters import Filters, Range, last_days
from pipeline.api.http.sessions import issue
from pipeline.api.routes.events import Pages
from pipeline.api.server.app import create_app
from pipeline.api.services.coalesced_reads import CoalescedReads
from pipeline.api.services.context import AppContext
from pipeline.catalog.rates import Rate, RateTable
from pipeline.clickhouse.client import Engine, open_engine
from pipeline.clickhouse.migrate import migrate
from pipeline.clickhouse.queries import OrgScope, query
from pipeline.local.ports import free

SECRET = "session-secret-of-the-benchmarks-0123456789"
AT_ONCE, MANY_AT_ONCE = 4, 32
ROWS_AN_INSERT, INSERT_EVERY_S = 1_250, 0.25
PATHS = 4_000
NO_FILTERS = Filters(None, None, "", "", "")

Ask = Callable[[random.Random], Awaitable[object]]


@dataclass(frozen=True)
class Question:
    """Something to ask over and over: at the engine's door, and as a path of an org's member."""

    name: str
    engine: Ask
    path: Callable[[random.Random], tuple[str, str]]
    at_once: int = AT_ONCE


def questions(context: AppContext, numbers: int) -> list[Question]:
    """Return what is asked: each draws its own parameters."""
    reads, page_reader, now_ms = CoalescedReads(context.database), Pages(context), context.now_ms()
    year, month = last_days(now_ms, 366), last_days(now_ms, 30)

    def any_org(draw: random.Random) -> str:
        return f"org_{draw.randrange(ORGS)}"

    def large_org(_: random.Random) -> str:
        return LARGE_ORG

    def days(org: str, name: str, of: Range, **more: object) -> Awaitable[object]:
        return reads.ask(query(name), OrgScope(org), from_day=of.first, to_day=of.last, **more)

    def page(draw: random.Random, org: str) -> Awaitable[object]:
        before = draw.randrange(1, numbers) * ID_STEP
        return page_reader.read(OrgScope(org), before, NO_FILTERS, 51)

    def activity(name: str, of: Range, org: Callable[[random.Random], str], at_once: int) -> Question:
        path = f"/me/activity?from={of.first}&to={of.last}"
        return Question(
            name,
            lambda draw: days(org(draw), "activity", of, **NO_FILTERS.values),
            lambda draw: (path, org(draw)),
            at_once,
        )

    def pages(name: str, org: Callable[[random.Random], str], at_once: int) -> Question:
        return Question(
            name,
            lambda draw: page(draw, org(draw)),
            lambda draw: (f"/me/activity/events?before={draw.randrange(1, numbers) * ID_STEP}", org(draw)),
            at_once,
        )

    ranked = query("rankings").of_platform(
        from_day=month.first, recent_day=last_days(now_ms, 7).first, to_day=month.last
    )

    def rankings(at_once: int) -> Question:
        return Question(
            "rankings",
            lambda _: context.database.shards[0].async_bytes(ranked.sql, ranked.parameters, output="TSVRaw"),
            lambda _: ("/v1/rankings", ""),
            at_once,
        )

    return [
        activity("activity, 366 days, the large org", year, large_org, 1),
        activity("activity, 366 days, the large org", year, large_org, AT_ONCE),
        activity("activity, 366 days, any org", year, any_org, 1),
        activity("activity, 366 days, any org", year, any_org, AT_ONCE),
        activity("activity, 30 days, any org", month, any_org, 1),
        activity("activity, 30 days, many orgs at once", month, any_org, MANY_AT_ONCE),
        pages("events page, any depth, the large org", large_org, 1),
        pages("events page, any depth, the large org", large_org, AT_ONCE),
        pages("events page, any depth, any org", any_org, 1),
        pages("events page, any depth, any org", any_org, AT_ONCE),
        Question(
            "usage, any org",
            lambda draw: days(any_org(draw), "usage", month),
            lambda draw: ("/me/usage", any_org(draw)),
        ),
        rankings(1),
        rankings(AT_ONCE),
    ]


async def _ask_engine(question: Question, seconds: float) -> Asked:
    took_ms: list[float] = []
    started = time.perf_counter()

    async def one(seed: int) -> None:
        draw = random.Random(seed)
        while (at := time.perf_counter()) - started < seconds:
            await question.engine(draw)
            took_ms.append((time.perf_counter() - at) * 1000)

    await asyncio.gather(*(one(seed) for seed in range(question.at_once)))
    return Asked(took_ms, 0, time.perf_counter() - started)


async def _ask_over_http(
    question: Question, port: int, now_ms: int, askers: ProcessPoolExecutor, seconds: float
) -> Asked:
    draw = random.Random(question.name)
    requests = []
    for _ in range(PATHS):
        path, org = question.path(draw)
        token = issue(SECRET, org, "owner", "bench@example.com", now_ms) if org else ""
        requests.append(HttpRequest(path, token))
    return await asyncio.get_running_loop().run_in_executor(
        askers, ask_http, port, requests, question.at_once, seconds
    )


async def _insert_on(engine: Engine, newer: NewerRows, inserted: list[int]) -> None:
    """Insert as the sink does, INSERT_EVERY_S apart, until cancelled."""
    while True:
        at = time.perf_counter()
        token = f"bench-{newer.number}"
        payload = await asyncio.to_thread(newer.take, ROWS_AN_INSERT)
        await asyncio.to_thread(engine.insert_blocks, "events", payload, ROWS_AN_INSERT, token)
        inserted[0] += ROWS_AN_INSERT
        await asyncio.sleep(max(0.0, at + INSERT_EVERY_S - time.perf_counter()))


def _context(engine: Engine, now_ms: int) -> AppContext:
    """Return the context of the API on an engine, its clock at the end of the year of rows."""
    rates = RateTable()
    for model in range(MODELS):
        rates.add(Rate(f"model-{model}", "provider-0", 0, 12_500, 12_500, 50_000))
    return AppContext(
        database=engine, key_names={}, rates=rates, session_secret=SECRET, now_ms=lambda: now_ms
    )


@asynccontextmanager
async def serving(context: AppContext) -> AsyncIterator[int]:
    """Serve the API around a context; yield the port."""
    port = free("127.0.0.1")
    config = uvicorn.Config(
        create_app(context), port=port, log_config=None, access_log=False, server_header=False
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    yield port
    server.should_exit = True
    await running


async def answers(*, events: int, full: bool, keep: Path | None = None) -> Report:
    """(f) Answers on `events` events over a year, with inserts beside them.

    The engine's data is kept in `keep` and used again where it has as many events.
    """
    report = Report(
        "f",
        f"answers on {events:,} events over a year, {ORGS:,} orgs, inserts beside them",
        ("answer", "through", "at once", "p50 ms", "p99 ms", "answers/s", "CPU ms", "answers"),
    )
    home = keep or Path(tempfile.mkdtemp(prefix="metering-bench-"))
    engine = open_engine(f"chdb://{home}")
    try:
        await asyncio.to_thread(migrate, engine)
        filled_s = await asyncio.to_thread(fill, engine, events)
        if filled_s:
            report.notes.append(f"Filled in {filled_s:,.0f} s.")
        await _measure(engine, 20.0 if full else 3.0, report)
    finally:
        engine.close()
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)
    return report


async def _measure(engine: Engine, seconds: float, report: Report) -> None:
    number, now_ms = await asyncio.to_thread(last_number, engine), newest_ms()
    inserted, began = [0], time.perf_counter()
    newer = await asyncio.to_thread(NewerRows, engine, number)
    inserting = asyncio.create_task(_insert_on(engine, newer, inserted))
    context = _context(engine, now_ms)
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as askers:
            async with serving(context) as port:
                for question in questions(context, number):
                    for through in ("engine", "HTTP"):
                        cpu_s = _cpu_s()
                        asked = await (
                            _ask_engine(question, seconds)
                            if through == "engine"
                            else _ask_over_http(question, port, now_ms, askers, seconds)
                        )
                        _add(report, question, through, asked, _cpu_s() - cpu_s)
    finally:
        inserting.cancel()
        await asyncio.wait([inserting])
    report.notes += [
        f"{inserted[0] / (time.perf_counter() - began):,.0f} rows/s inserted meanwhile.",
        "CPU ms: of the server's process for each answer, the inserts and merges beside it included.",
        await asyncio.to_thread(roll_up_rows, engine),
    ]


def _add(report: Report, question: Question, through: str, asked: Asked, cpu_s: float) -> None:
    count = len(asked.took_ms)
    report.add(
        question.name,
        through,
        question.at_once,
        percentile(asked.took_ms, 0.5),
        percentile(asked.took_ms, 0.99),
        count / asked.seconds,
        cpu_s / count * 1000,
        count,
    )
    print(report.markdown().splitlines()[len(report.rows) + 3], flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
