"""(b) and (c): the whole path, from making an event until ClickHouse answers with it.

Owns: publishing live to real roles, and asking how many rows are queryable.
Called by: `bench/__main__.py`.

In (b) a row is queryable when its insert has returned, as the server counts it; in (c) when a member's answer has it. The load
generator, the broker, the worker and the server with the sink share the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time

import httpx2

from bench.events import event, orgs_of, record_values
from bench.kafka import Filler
from bench.processes import SESSION_SECRET, Bench, bench, cpu_s_of
from bench.report import Report, percentile
from pipeline import topics
from pipeline.api.http.sessions import issue

ORGS, BATCH = 1_000, 500
MEMBERS_ORG = "org_of_the_member"
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


class Member:
    """A member of one org, who asks how many requests it made.

    `/metrics` would not do for latencies: its text is up to a second old.
    """

    def __init__(self, run: Bench, org: str) -> None:
        """Sign in to the server of a bench."""
        token = issue(SESSION_SECRET, org, "owner", "member@bench.example", time.time_ns() // 1_000_000)
        self._url = f"{run.http_url}/me/activity/totals"
        self._client = httpx2.AsyncClient(
            trust_env=False, timeout=30, headers={"Authorization": f"Bearer {token}"}
        )

    async def requests(self) -> int:
        """Return how many requests of the org the API knows. Raises httpx2.HTTPStatusError."""
        answer = (await self._client.get(self._url)).raise_for_status().json()
        return int(answer["totals"]["requests"])


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
        for what, held in _on_disk(run).items():
            report.notes.append(f"On disk, {what}: {held / events:.1f} bytes an event.")
    return report


def _on_disk(run: Bench) -> dict[str, int]:
    """Return the bytes on disk by topic and by table: the segments of one without their indexes, which are allocated ahead."""
    kept = (topics.REQUESTS, topics.JOURNAL, topics.STATE)
    logs = {name: run.home.glob(f"kafka/**/{name}-[0-9]*/*.log") for name in kept}
    tables = {
        f"table {path.name}": path.resolve().rglob("*") for path in run.home.glob("clickhouse/data/[!s]*/*")
    }
    return {
        name: sum(path.stat().st_size for path in found if path.is_file())
        for name, found in {**logs, **tables}.items()
    }


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
        member = Member(run, MEMBERS_ORG)
        published_at_s: list[float] = []
        publishing = asyncio.create_task(_publish(run.servers, rate, seconds, size, published_at_s))
        took_ms: list[float] = []
        async with asyncio.timeout(LIMIT_S):
            while not publishing.done() or len(took_ms) < len(published_at_s):
                known, now = await member.requests(), time.monotonic()
                took_ms += [(now - at_s) * 1000 for at_s in published_at_s[len(took_ms) : known]]
                await asyncio.sleep(ASK_EVERY_S)
        await publishing
        span_s = published_at_s[-1] - published_at_s[0]
        settled = took_ms[len(took_ms) // 5 :]
        report.add(
            len(published_at_s) * size / span_s,
            percentile(settled, 0.5),
            percentile(settled, 0.99),
            max(settled),
            len(settled),
        )
        report.notes.append(
            f"A member asks every {ASK_EVERY_S * 1000:.0f} ms, which adds up to as much; the first fifth is left out."
        )
    return report


async def _publish(servers: str, rate: int, seconds: int, size: int, published_at_s: list[float]) -> None:
    """Publish records of `size` events at a steady rate; one that is late is not waited for twice.

    The last event of each record is the member's org's.
    """
    source, now_ms = "gateway/bench/0", time.time_ns() // 1_000_000
    values = record_values(
        events=rate * seconds // size * (size - 1),
        batch=size - 1,
        orgs=orgs_of(ORGS, 1, 0),
        source=source,
        now_ms=now_ms,
    )
    async with Filler(servers) as filler:
        began = time.monotonic()
        for number, value in enumerate(values, start=1):
            theirs = event(number, MEMBERS_ORG, f"{source}/member", now_ms).encode()
            await asyncio.sleep(max(0.0, began + number * size / rate - time.monotonic()))
            at_s = time.monotonic()
            await filler.send(topics.REQUESTS, 0, value[:-1] + b"," + theirs + b"]")
            published_at_s.append(at_s)
