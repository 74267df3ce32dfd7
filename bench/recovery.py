"""(r) Recovery: from the kill of the worker until its partitions are debited, and queryable, again.

Owns: killing real workers (SIGKILL) under a steady load, and timing what comes after.
Called by: `bench/__main__.py` and `tests/crash/test_recovery.py`.

Only events published after the kill count: no worker that is dead can have charged them. A partition is back
when the first of them stands, committed, in its journal, and queryable when the API answers with one of them.
All partitions have to be back; that of another worker hardly ever went away.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.events import event, orgs_of
from bench.kafka import Filler
from bench.processes import COMMAND_KEY, SESSION_SECRET, Bench, Process, bench
from bench.report import Report, percentile
from bench.whole import Queryable
from pipeline import topics
from pipeline.api.http.sessions import issue
from pipeline.journal import REQUESTS, RequestRow, decode_rows, read_headers
from pipeline.kafka.reader import SESSION_TIMEOUT_MS
from pipeline.local.ports import free
from pipeline.local.supervisor import RESTART_DELAY_SECONDS

PARTITIONS = 4
EVERY_S = 0.02
"""One event a partition this often."""
LIMIT_S = 90.0
ASK_EVERY_S = 0.05
SETTLED_S = 4.0
"""A kill comes at a random moment within this of all being well: longer than workers' heartbeats are apart."""
RESTARTED = "started again after 0.25 s, as `up` does"
UNNAMED = "started again, without METERING_INSTANCE"
TAKEN_OVER = "not started again: the other worker took over"
_OWNED = re.compile(r"^metering_worker_partitions (\S+)$", re.MULTILINE)


@dataclass
class Worker:
    """A place for a worker, and the process in it."""

    number: int
    port: int
    process: Process


@dataclass
class Kill:
    """What came of a kill, seconds after it: all partitions debited again, and queryable again."""

    shape: str
    debited_s: float
    queryable_s: float


@dataclass
class Watch:
    """The events published so far, and the first of each partition after a moment that the journal has."""

    sent_s: dict[str, float] = field(default_factory=dict)
    since_s: float = float("inf")
    back_s: dict[int, float] = field(default_factory=dict)
    first_id: dict[int, int] = field(default_factory=dict)

    def begin(self, since_s: float) -> None:
        """Look out for events published from now on."""
        self.since_s, self.back_s, self.first_id = since_s, {}, {}

    def saw(self, partition: int, event_id: str, row_id: int) -> None:
        """Note a committed debit."""
        if self.sent_s[event_id] > self.since_s and partition not in self.back_s:
            self.back_s[partition] = time.monotonic()
            self.first_id[partition] = row_id

    async def debited(self) -> float:
        """Return the moment at which the last partition came back. Raises TimeoutError."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.back_s) < PARTITIONS:
                await asyncio.sleep(0.005)
        return max(self.back_s.values())


class Platform:
    """Workers, a server with the sink, a steady load, and a reader of the journal."""

    def __init__(self, run: Bench, workers: int, *, named: bool) -> None:
        """Start the processes. `named`: a worker that is started again is known to its group, as below `up`."""
        self._run, self._named = run, named
        self._server = run.server()
        self.workers = [self._start(number, free("127.0.0.1")) for number in range(workers)]
        self._orgs = [orgs_of(100, PARTITIONS, p)[0] for p in range(PARTITIONS)]
        self._http = httpx2.AsyncClient(trust_env=False, timeout=10)
        self.watch = Watch()

    def _start(self, number: int, port: int) -> Worker:
        environment = {
            "METERING_KAFKA_URL": self._run.broker.url,
            "METERING_COMMAND_KEY": COMMAND_KEY,
            "METERING_PARTITIONS": str(PARTITIONS),
            "METERING_WORKER_PORT": str(port),
        }
        if self._named:
            environment["METERING_INSTANCE"] = f"worker-{number}"
        log = self._run.home / f"worker-{number}.log"
        process = Process([sys.executable, "-m", "pipeline", "worker"], log, environment)
        self._run.started.append(process)
        return Worker(number, port, process)

    def kill(self, worker: Worker) -> float:
        """End a worker as a crash would and return when that was."""
        killed_s = time.monotonic()
        worker.process.stop()
        return killed_s

    def start_again(self, worker: Worker) -> None:
        """Start a worker in the place of a dead one."""
        worker.process = self._start(worker.number, worker.port).process

    async def settled(self, among: int) -> None:
        """Return when that many workers share all partitions. Raises TimeoutError."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                owned = [n for n in [await self._owned(worker) for worker in self.workers] if n]
                if len(owned) == among and sum(owned) == PARTITIONS:
                    return
                await asyncio.sleep(0.1)

    async def _owned(self, worker: Worker) -> int:
        try:
            answer = await self._http.get(f"http://127.0.0.1:{worker.port}/metrics")
            healthy = (await self._http.get(f"http://127.0.0.1:{worker.port}/healthz")).is_success
        except httpx2.HTTPError:
            return 0
        found = _OWNED.search(answer.text)
        return int(float(found[1])) if found and healthy else 0

    async def queryable(self) -> float:
        """Return the moment at which the API has answered for every partition that came back."""
        async with asyncio.timeout(LIMIT_S):
            for partition, org in enumerate(self._orgs):
                while await self._newest(org) < self.watch.first_id[partition]:
                    await asyncio.sleep(ASK_EVERY_S)
        return time.monotonic()

    async def _newest(self, org: str) -> int:
        token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
        answer = await self._http.get(
            f"{self._run.http_url}/me/activity/events?limit=1", headers={"Authorization": f"Bearer {token}"}
        )
        events = answer.json()["events"] if answer.is_success else []
        return events[0]["id"] if events else 0

    async def load(self) -> None:
        """Publish until cancelled."""
        async with Filler(self._run.servers) as filler:
            number = 0
            while True:
                number += 1
                await asyncio.gather(*(self._publish(filler, p, number) for p in range(PARTITIONS)))
                await asyncio.sleep(EVERY_S)

    async def _publish(self, filler: Filler, partition: int, number: int) -> None:
        numbered = number * PARTITIONS + partition
        value = event(numbered, self._orgs[partition], f"gateway/bench/{partition}", time.time_ns() // 10**6)
        self.watch.sent_s[f"0197d3c4-6a1e-7c3b-9a55-{numbered:012x}"] = time.monotonic()
        await filler.send(topics.REQUESTS, partition, value.encode())

    async def read_journal(self) -> None:
        """Note committed debits until cancelled."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._run.servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=10,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topics.JOURNAL, p) for p in range(PARTITIONS)])
            async for record in consumer:
                journal = read_headers(record.headers, record.value)
                if journal.kind == REQUESTS:
                    for row in decode_rows(journal):
                        assert isinstance(row, RequestRow)
                        self.watch.saw(record.partition, row.event_id, row.id)
        finally:
            await consumer.stop()


@asynccontextmanager
async def platform(workers: int, *, named: bool = True) -> AsyncIterator[Platform]:
    """Run the product under load; everything is ended at the end."""
    async with bench(PARTITIONS) as run:
        running = Platform(run, workers, named=named)
        tasks = [asyncio.create_task(work) for work in (running.load(), running.read_journal())]
        try:
            await Queryable(run).ready()
            yield running
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def restarts(kills: int, seed: int, *, named: bool = True) -> list[Kill]:
    """Kill the only worker again and again."""
    draw = random.Random(seed)
    async with platform(1, named=named) as running:
        return [await restart(running, draw, RESTARTED if named else UNNAMED) for _ in range(kills)]


async def takeovers(kills: int, seed: int) -> list[Kill]:
    """Kill one of two workers again and again."""
    draw = random.Random(seed)
    async with platform(2) as running:
        return [await takeover(running, draw) for _ in range(kills)]


async def restart(running: Platform, draw: random.Random, shape: str = RESTARTED) -> Kill:
    """Kill a worker and start it again after the supervisor's delay."""
    worker, killed_s = await _killed(running, draw)
    await asyncio.sleep(RESTART_DELAY_SECONDS)
    running.start_again(worker)
    return await _recovered(running, shape, killed_s)


async def takeover(running: Platform, draw: random.Random) -> Kill:
    """Kill a worker and start it again only once the others have its partitions."""
    worker, killed_s = await _killed(running, draw)
    kill = await _recovered(running, TAKEN_OVER, killed_s)
    running.start_again(worker)
    return kill


async def _killed(running: Platform, draw: random.Random) -> tuple[Worker, float]:
    """Kill a worker at a random moment after all was well; the worker, and when."""
    await running.settled(among=len(running.workers))
    await asyncio.sleep(draw.uniform(0.2, SETTLED_S))
    worker = draw.choice(running.workers)
    killed_s = running.kill(worker)
    running.watch.begin(killed_s)
    return worker, killed_s


async def _recovered(running: Platform, shape: str, killed_s: float) -> Kill:
    debited_s = await running.watch.debited() - killed_s
    kill = Kill(shape, debited_s, await running.queryable() - killed_s)
    print(f"{shape}: debited {kill.debited_s:.2f} s, queryable {kill.queryable_s:.2f} s", flush=True)
    return kill


async def recovery(*, full: bool) -> Report:
    """(r) p50 and p99 over many kills, of each shape."""
    report = Report(
        "r",
        f"recovery after SIGKILL of a worker, {PARTITIONS} partitions, "
        f"{PARTITIONS / EVERY_S:,.0f} events/s, session time-out {SESSION_TIMEOUT_MS / 1000:.0f} s",
        (
            "the worker is",
            "kills",
            "debited p50 s",
            "debited p99 s",
            "debited worst s",
            "p99 / session time-out",
            "queryable p50 s",
            "queryable p99 s",
        ),
    )
    for found in (
        await restarts(70 if full else 5, seed=1),
        await takeovers(30 if full else 3, seed=2),
        await restarts(5 if full else 2, seed=3, named=False),
    ):
        debited, queryable = [k.debited_s for k in found], [k.queryable_s for k in found]
        report.add(
            found[0].shape,
            len(found),
            percentile(debited, 0.5),
            percentile(debited, 0.99),
            max(debited),
            percentile(debited, 0.99) / (SESSION_TIMEOUT_MS / 1000),
            percentile(queryable, 0.5),
            percentile(queryable, 0.99),
        )
    return report
