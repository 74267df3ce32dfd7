"""(b) and (c): the whole path, from making an event until ClickHouse answers with it.

Owns: publishing live to real roles, and asking how many rows are queryable.
Called by: `bench/__main__.py`.

A row is queryable when its insert has returned, which is when the server counts it. The load generator,
the broker, the worker and the server with the sink share the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from dataclasses import dataclass

import httpx2

from bench.events import orgs_of, record_values
from bench.kafka import Filler
from bench.processes import Bench, bench, cpu_s_of
from bench.report import Report, percentile
from pipeline import topics

ORGS, BATCH = 1_000, 500
ASK_EVERY_S, ASK_RARELY_S = 0.05, 0.5
READY_LIMIT_S, LIMIT_S = 60, 180
_ROWS = re.compile(r'^metering_sink_rows_total\{kind="requests"\} (\S+)$', re.MULTILINE)


class Queryable:
    """How many request rows are in ClickHouse."""

    def __init__(self, run: Bench) -> None:
        """Ask the server of a bench."""
        self._url = run.http_url
        self._client = httpx2.AsyncClient(trust_env=False, timeout=30)

    async def ready(self) -> None:
        """Return when every part of the product answers. Raises TimeoutError."""
        async with asyncio.timeout(READY_LIMIT_S):
            while True:
                try:
                    if (await self._client.get(f"{self._url}/healthz")).is_success:
                        return
                except httpx2.HTTPError:
                    pass
                await asyncio.sleep(0.2)

    async def rows(self) -> int:
        """Return the rows of which the insert has returned."""
        found = _ROWS.search((await self._client.get(f"{self._url}/metrics")).text)
        return int(float(found[1])) if found else 0


@dataclass(frozen=True)
class Published:
    """That `events` events in all were published when this record was, at `at_s`."""

    at_s: float
    events: int


async def whole(*, full: bool) -> Report:
    """(b) Sustained events a second until queryable, all parts on this machine."""
    events, partitions = (4_000_000 if full else 400_000), 4
    report = Report(
        "b",
        f"whole path until queryable, {events:,} events, {BATCH} a record, 4 partitions",
        ("part", "events/s", "CPU us an event"),
    )
    async with bench(partitions) as run:
        worker, server = run.worker(), run.server()
        there = Queryable(run)
        await there.ready()
        pids = {"worker": worker.pid, "server with sink": server.pid, "broker": run.broker.process.pid}
        before = {name: cpu_s_of(pid) for name, pid in pids.items()}
        began, made = time.monotonic(), time.process_time()
        async with Filler(run.servers) as filler:
            for p in range(partitions):
                values = record_values(
                    events=events // partitions,
                    batch=BATCH,
                    orgs=orgs_of(ORGS, partitions, p),
                    source=f"gateway/bench/{p}",
                    now_ms=time.time_ns() // 1_000_000,
                )
                while chunk := list(itertools.islice(values, 20)):
                    await filler.fill(topics.REQUESTS, p, ((None, value) for value in chunk))
        made = time.process_time() - made
        async with asyncio.timeout(LIMIT_S):
            while await there.rows() < events:
                worker.check()
                server.check()
                await asyncio.sleep(ASK_RARELY_S)
        wall_s = time.monotonic() - began
        report.add("all, until queryable", events / wall_s, None)
        report.add("load generator", None, made / events * 1e6)
        for name, pid in pids.items():
            report.add(name, None, (cpu_s_of(pid) - before[name]) / events * 1e6)
    return report


async def freshness(*, full: bool) -> Report:
    """(c) From publishing to queryable at a steady rate, one partition, so that rows come in order."""
    rate, seconds, size = 5_000, (60 if full else 15), 50
    report = Report(
        "c",
        f"freshness, publish to queryable, {rate:,} events/s asked for",
        ("published events/s", "p50 ms", "p99 ms", "worst ms", "records"),
    )
    async with bench(1) as run:
        run.worker()
        run.server()
        there = Queryable(run)
        await there.ready()
        published: list[Published] = []
        publishing = asyncio.create_task(_publish(run.servers, rate, seconds, size, published))
        took_ms: list[float] = []
        async with asyncio.timeout(LIMIT_S):
            while not publishing.done() or len(took_ms) < len(published):
                rows, now = await there.rows(), time.monotonic()
                while len(took_ms) < len(published) and published[len(took_ms)].events <= rows:
                    took_ms.append((now - published[len(took_ms)].at_s) * 1000)
                await asyncio.sleep(ASK_EVERY_S)
        await publishing
        span_s = published[-1].at_s - published[0].at_s
        settled = took_ms[len(took_ms) // 5 :]
        report.add(
            published[-1].events / span_s,
            percentile(settled, 0.5),
            percentile(settled, 0.99),
            max(settled),
            len(settled),
        )
        report.notes.append(
            f"Asked every {ASK_EVERY_S * 1000:.0f} ms, which adds up to as much; the first fifth is left out."
        )
    return report


async def _publish(servers: str, rate: int, seconds: int, size: int, published: list[Published]) -> None:
    """Publish records of `size` events at a steady rate; one that is late is not waited for twice."""
    values = record_values(
        events=rate * seconds,
        batch=size,
        orgs=orgs_of(ORGS, 1, 0),
        source="gateway/bench/0",
        now_ms=time.time_ns() // 1_000_000,
    )
    async with Filler(servers) as filler:
        began = time.monotonic()
        for number, value in enumerate(values, start=1):
            await asyncio.sleep(max(0.0, began + number * size / rate - time.monotonic()))
            at_s = time.monotonic()
            await filler.send(topics.REQUESTS, 0, value)
            published.append(Published(at_s, number * size))
