"""The sink and the API while ClickHouse misbehaves over HTTP: real broker, real engine, real processes.

At the end the product's own `verify` is clean, and a count that shares no code with it agrees.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.accounts.commands import SignUp, View
from pipeline.accounts.results import AccountView
from pipeline.api.http.sessions import issue
from pipeline.catalog.rates import Rate
from pipeline.clickhouse.client import open_engine
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.local.broker import Broker
from pipeline.topics import VERDICTS
from tests.support.builders import COMMAND_KEYS
from tests.support.clickhouse.misbehaviour import INSERT, SERVED, Fault, Mixture
from tests.support.product.behind_http import WRITE_S, BehindHttp, behind_http
from tests.support.product.processes import SESSION_SECRET
from tests.support.product.traffic import RATES, Traffic

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(20)]
SIGNUP_NANO = 100_000_000_000
CHAOS_S = float(os.environ.get("METERING_TEST_CHAOS_SECONDS", "20"))
"""How long ClickHouse misbehaves; `make crash` takes longer."""
SEED = int(os.environ.get("METERING_TEST_CHAOS_SEED", "7"))
TIMES_EACH_MIN = 2
RAGE_LIMIT_S = CHAOS_S + 150
"""A machine that is busy with other things may need longer for every fault to be met often enough."""
AWAY_LIMIT_S = 10.0
"""Within which an answer that needs ClickHouse says that it is away: docs/operations.md."""
MISSING_LIMIT_S = 50.0
"""For a `verify` that misses rows: it waits neither for a sink that is not behind, which would be 60 s, nor for one partition
after the other."""
SOON_S = 30.0


@pytest_asyncio.fixture
async def running(fresh_broker: Broker, tmp_path: Path) -> AsyncIterator[BehindHttp]:
    """The product with a worker and a server, and ClickHouse behind HTTP."""
    async with behind_http(fresh_broker, tmp_path, partitions=PARTITIONS, seed=SEED) as started:
        yield started


@pytest_asyncio.fixture
async def client(running: BehindHttp) -> AsyncIterator[CommandClient]:
    """A client that asks the worker."""
    made = CommandClient(running.connection, COMMAND_KEYS)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def traffic(running: BehindHttp, client: CommandClient) -> AsyncIterator[Traffic]:
    """Traffic of orgs that are signed up, with rates in force."""
    rates = [Rate(model, provider, 0, *nano) for (model, provider), nano in RATES.items()]
    _, end = await publish_rates(running.connection, "metering", lambda *_: rates)
    await client.barrier(end)
    for org in ORGS:
        await client.send(SignUp(f"signup-{org}", org, org, f"{org}@example.in"))
    made = Traffic(running.servers, PARTITIONS, ORGS, seed=SEED)
    await made.start()
    yield made
    await made.stop()


class Reader:
    """Somebody who reads the API all the time, and counts what the answers were."""

    def __init__(self, running: BehindHttp) -> None:
        """Prepare."""
        self._running = running
        self._client = httpx2.AsyncClient(trust_env=False, timeout=AWAY_LIMIT_S)
        self.answers: Counter[str] = Counter()

    async def get(self, path: str, org: str) -> httpx2.Response:
        """Return an answer, of which the status is 200, or 503 in the envelope, within the limit."""
        token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
        answer = await self._client.get(
            f"{self._running.http_url}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        self.answers[f"{path} {answer.status_code}"] += 1
        if answer.status_code != httpx2.codes.OK:
            assert answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE, answer.text
            assert answer.json()["error"]["code"] == "unavailable", answer.text
            assert int(answer.headers["Retry-After"]) > 0
        return answer

    async def read_on(self) -> None:
        """Read until cancelled. A server that was killed may leave a request without an answer."""
        while True:
            for org in ORGS:
                for path in ("/me/usage", "/me/billing", "/me/keys"):
                    try:
                        await self.get(path, org)
                    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                        self.answers["no server"] += 1
                await asyncio.sleep(0.2)


@pytest_asyncio.fixture
async def reader(running: BehindHttp) -> AsyncIterator[Reader]:
    """A reader of the API."""
    made = Reader(running)
    yield made
    await made._client.aclose()


async def _until(
    holds: Callable[[], Awaitable[object]], what: str, running: BehindHttp, limit_s: float = SOON_S
) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if await holds():
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, f"{what}\n{running.all_words()}"
        await asyncio.sleep(0.1)


async def _charged(client: CommandClient, traffic: Traffic) -> bool:
    """Return whether every balance is what it has to be, as the worker knows it."""
    for org in ORGS:
        account = await client.send(View(new_command_id(), org), 30)
        assert isinstance(account, AccountView), account
        if account.balance_nano != SIGNUP_NANO - traffic.truth.owed_nano[org]:
            return False
    return True


async def _verdicts(running: BehindHttp) -> int:
    """Return how many records the verdicts hold."""
    places = [TopicPartition(VERDICTS, partition) for partition in range(PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=running.servers) as consumer:
        return sum((await consumer.end_offsets(places)).values())


async def _stored(running: BehindHttp, traffic: Traffic) -> bool:
    """Return whether ClickHouse has as many requests as were published."""
    rows = await asyncio.to_thread(running.clickhouse.ask, "SELECT count() FROM events")
    return int(rows[0][0]) >= len(traffic.truth.charged)


async def _books_agree(running: BehindHttp, traffic: Traffic) -> None:
    """Compare all of ClickHouse with what was published, and have the product verify itself."""

    async def ask(sql: str) -> list[list[Any]]:
        return await asyncio.to_thread(running.clickhouse.ask, sql)

    await _until(lambda: _stored(running, traffic), "rows are missing", running, 120)
    truth = traffic.truth
    assert {(source, event_id) for source, event_id in await ask("SELECT source, event_id FROM events")} == (
        truth.charged
    )
    assert await ask("SELECT count(), uniqExact(id), uniqExact(source, event_id) FROM events") == [
        [len(truth.charged)] * 3
    ]
    owed = {org: nano for org, nano in truth.owed_nano.items() if nano}
    for table in ("events", "usage_day", "posted_day"):
        sums = await ask(f"SELECT org, sum(cost_nano) FROM {table} GROUP BY org HAVING sum(cost_nano) > 0")
        assert {org: int(nano) for org, nano in sums} == owed, table
    for table in ("usage_day", "model_day", "posted_day"):
        assert await ask(f"SELECT sum(requests) FROM {table}") == [[len(truth.charged)]], table
    assert await ask("SELECT count(), uniqExact(id), sum(amount_nano) FROM ledger") == [
        [len(ORGS), len(ORGS), len(ORGS) * SIGNUP_NANO]
    ]
    report = await running.verify()
    assert report.differences == []
    assert report.requests == len(truth.charged)


async def test_clickhouse_being_away_takes_only_its_own_answers_away(
    running: BehindHttp, client: CommandClient, traffic: Traffic, reader: Reader
) -> None:
    """Debits and verdicts go on, a server starts without it, and what needs it comes back by itself."""
    await traffic.publish(500)
    running.clickhouse.kill()
    assert (await reader.get("/me/usage", ORGS[0])).status_code == httpx2.codes.SERVICE_UNAVAILABLE
    before = await _verdicts(running)
    await traffic.publish(500)
    await _until(lambda: _charged(client, traffic), "requests are not charged without ClickHouse", running)
    assert await _verdicts(running) > before
    assert running.server is not None
    running.server.kill()
    running.server.start()

    async def answers(path: str) -> bool:
        return (await reader.get(path, ORGS[0])).status_code == httpx2.codes.OK

    await _until(lambda: answers("/me/keys"), "the server does not start without ClickHouse", running)
    assert running.server.running
    assert not await answers("/me/usage")
    async with httpx2.AsyncClient(trust_env=False, timeout=AWAY_LIMIT_S) as health_client:
        health = (await health_client.get(f"{running.http_url}/healthz")).json()
    assert (health["worker"], health["kafka"]) == ("ok", "ok")
    assert "ok" not in (health["clickhouse"], health["sink"])
    await traffic.publish(500)
    await asyncio.to_thread(running.clickhouse.start)
    await _until(lambda: answers("/me/usage"), "the API does not come back with ClickHouse", running)
    await running.ready()
    await _books_agree(running, traffic)
    await _missing_rows_are_told_at_once(running)


async def _missing_rows_are_told_at_once(running: BehindHttp) -> None:
    """Lose some rows for good: the next `verify` misses them on their day, one of everything in their place."""
    engine = open_engine(running.clickhouse.url)
    try:
        lost = "ALTER TABLE events DELETE WHERE org = 'LOST' SETTINGS mutations_sync = 1".replace(
            "LOST", ORGS[0]
        )
        await asyncio.to_thread(engine.command, lost)
    finally:
        engine.close()
    for full, where in ((False, "events by day, as the journal has it"), (True, "rows/")):
        started = time.monotonic()
        report = await running.verify(full=full)
        assert time.monotonic() - started < MISSING_LIMIT_S
        assert any(each.place.startswith(where) for each in report.differences), report


class Storm:
    """What is done to ClickHouse and the server, drawn from a seed: each act as often as any other."""

    def __init__(self, running: BehindHttp, seed: int) -> None:
        """Prepare; `rage` does it."""
        self._running = running
        self._draw = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Do one act after the other until the time is over, each while faults are injected too.

        It goes on until every fault was met by some inserts, but not for ever.
        """
        acts = [self._faults, self._server_killed, self._faults, self._clickhouse_killed, self._frozen]
        started = time.monotonic()
        while not self._enough(time.monotonic() - started, seconds):
            self._draw.shuffle(acts)
            for act in acts:
                share = self._draw.uniform(0.2, 0.6)
                self._running.clickhouse.misbehave(Mixture(share, slow_s=WRITE_S / 2, late_s=WRITE_S + 1.5))
                await act()
                self.done[act.__name__.strip("_").replace("_", " ")] += 1
                self._running.revive()
        self._running.clickhouse.behave()

    def _enough(self, raged_s: float, seconds: float) -> bool:
        met = self._inserts()
        all_met = all(met[fault] >= TIMES_EACH_MIN for fault in Fault)
        return raged_s > seconds and (all_met or raged_s > RAGE_LIMIT_S)

    def _inserts(self) -> Counter[str]:
        return self._running.clickhouse.counts().get(INSERT, Counter())

    async def _more_inserts(self, count: int, *, met: bool) -> None:
        """Wait until there were some more inserts, or such that met a fault; not for ever."""

        def done() -> int:
            inserts = self._inserts()
            return inserts.total() - (inserts[SERVED] if met else 0)

        enough, deadline = done() + count, time.monotonic() + SOON_S
        while done() < enough and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def _faults(self) -> None:
        await self._more_inserts(len(Fault) + 1, met=True)

    async def _server_killed(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, 1))
        assert self._running.server is not None
        self._running.server.kill()
        self._running.server.start()
        await self._more_inserts(1, met=False)

    async def _clickhouse_killed(self) -> None:
        killed_in_an_insert = await asyncio.to_thread(self._running.clickhouse.kill_in_an_insert, self._draw)
        self.done["clickhouse killed in an insert"] += killed_in_an_insert
        await asyncio.sleep(self._draw.uniform(0, 3))
        await asyncio.to_thread(self._running.clickhouse.start)

    async def _frozen(self) -> None:
        self._running.clickhouse.freeze()
        await asyncio.sleep(WRITE_S + self._draw.uniform(0, 3))
        self._running.clickhouse.thaw()


def _put_back(running: BehindHttp) -> int:
    """Return how often the sink said that it had put back what ClickHouse had lost."""
    assert running.server is not None
    return running.server.log.read_text(errors="replace").count("the engine had lost")


async def test_nothing_is_lost_or_doubled_when_clickhouse_misbehaves(
    running: BehindHttp, client: CommandClient, traffic: Traffic, reader: Reader
) -> None:
    """Every fault, at random, with the server killed and ClickHouse killed and frozen in the middle."""
    storm = Storm(running, SEED)
    raging = asyncio.create_task(storm.rage(CHAOS_S))
    reading = asyncio.create_task(reader.read_on())
    while not raging.done():
        await traffic.publish(40)
        await asyncio.sleep(0.1)
        assert not reading.done() or reading.result()
    raging.result()
    calm_from = time.monotonic()
    await running.ready()
    await _until(lambda: _stored(running, traffic), "rows are missing", running, 120)
    drained_s = time.monotonic() - calm_from
    reading.cancel()
    await asyncio.wait([reading])
    await _books_agree(running, traffic)
    assert await _charged(client, traffic)
    found = running.clickhouse.counts()
    print(
        json.dumps(
            {
                "seed": SEED,
                "events": len(traffic.truth.charged),
                "duplicates": traffic.truth.duplicates,
                "acts": storm.done,
                "drained_s": round(drained_s, 1),
                "blocks lost and put back": _put_back(running),
                "answers": reader.answers,
                **found,
            },
            indent=1,
        )
    )
    for fault in Fault:
        assert found[INSERT][fault] >= TIMES_EACH_MIN, fault
    assert found[INSERT][SERVED] > 0
    assert reader.answers["/me/usage 503"] > 0 < reader.answers["/me/usage 200"]
