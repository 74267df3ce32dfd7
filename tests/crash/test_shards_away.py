"""The whole product on two shards of ClickHouse: what each has, and what goes on with one away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio

from pipeline.accounts.commands import SignUp
from pipeline.api.http.sessions import issue
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient
from pipeline.local.broker import Broker
from pipeline.partitioning import partition_of
from tests.support.builders import COMMAND_KEYS
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.apart import Apart
from tests.support.product.processes import SESSION_SECRET, started
from tests.support.product.traffic import RATES, Traffic

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(8)]
LIMIT_S = 90.0


@pytest_asyncio.fixture
async def running(fresh_broker: Broker, tmp_path: Path) -> AsyncIterator[Apart]:
    """The product on two shards, each role in a process of its own."""
    first, second = (ClickHouse(tmp_path / name, seed=1) for name in ("one", "two"))
    deployment = Apart(fresh_broker, tmp_path, clickhouse=first, more_shards=[second])
    try:
        for each in (first, second):
            await asyncio.to_thread(each.start)
        async with started(deployment, workers=1, partitions=PARTITIONS) as running:
            yield running
    finally:
        for each in (first, second):
            each.kill()


@pytest_asyncio.fixture
async def traffic(running: Apart) -> AsyncIterator[Traffic]:
    """Traffic of orgs that are signed up, with rates in force."""
    rates = [Rate(model, provider, 0, *nano) for (model, provider), nano in RATES.items()]
    client = CommandClient(running.connection, COMMAND_KEYS)
    await client.start()
    _, end = await publish_rates(running.connection, "metering", lambda *_: rates)
    await client.barrier(end)
    for org in ORGS:
        await client.send(SignUp(f"signup-{org}", org, org, f"{org}@example.in"))
    await client.stop()
    made = Traffic(running.servers, PARTITIONS, ORGS, seed=1)
    await made.start()
    yield made
    await made.stop()


async def _get(running: Apart, path: str, org: str = ORGS[0]) -> httpx2.Response:
    token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.get(f"{running.http_url}{path}", headers={"Authorization": f"Bearer {token}"})


async def _until(holds: Callable[[], Awaitable[bool]], what: str, running: Apart) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await holds():
        assert time.monotonic() < deadline, f"{what}\n{running.all_words()}"
        await asyncio.sleep(0.2)


def _shard_of(org: str) -> int:
    return partition_of(org, PARTITIONS) % 2


def _metering(running: Apart, *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    assert running.sink is not None
    environment = {**running.sink.environment, **({"METERING_CLICKHOUSE_URL": url} if url else {})}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments, "--data-dir", str(running.home / "nothing")],
        env={name: value for name, value in environment.items() if name != "METERING_INSTANCE"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


async def _found(running: Apart, *arguments: str, url: str | None = None) -> Any:
    done = await asyncio.to_thread(_metering, running, *arguments, url=url)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


async def _books_agree(running: Apart, traffic: Traffic) -> None:
    """Both shards have what was published, each of its own orgs, and the product says the same of itself."""
    truth = traffic.truth

    def rows() -> list[set[tuple[str, str]]]:
        asked = "SELECT org, event_id FROM events"
        return [{(org, event) for org, event in each.ask(asked)} for each in running_shards(running)]

    async def stored() -> bool:
        return sum(map(len, await asyncio.to_thread(rows))) >= len({event for _, event in truth.charged})

    await _until(stored, "rows are missing", running)
    for number, found in enumerate(await asyncio.to_thread(rows)):
        assert found and {_shard_of(org) for org, _ in found} == {number}
    report = await _found(running, "verify")
    assert report["differences"] == []
    assert report["requests"] == len(truth.charged)
    whole = await running.verify(full=True)
    assert (whole.differences, whole.requests) == ([], len(truth.charged))


def running_shards(running: Apart) -> list[ClickHouse]:
    """Return the processes of ClickHouse in the order of their shards."""
    return [running.clickhouse, *running.more_shards]


async def test_two_shards_are_one_product(running: Apart, traffic: Traffic) -> None:
    assert {_shard_of(org) for org in ORGS} == {0, 1}
    await traffic.publish(600)
    await _books_agree(running, traffic)
    await _with_one_away(running, traffic)
    await _books_agree(running, traffic)
    await _wrong_shards_are_refused(running)


async def _with_one_away(running: Apart, traffic: Traffic) -> None:
    """Nothing of the other shard's orgs is missing, however often sink and server are started meanwhile."""
    here, there = ([org for org in ORGS if _shard_of(org) == number] for number in (0, 1))
    running_shards(running)[1].kill()
    assert running.sink is not None and running.server is not None
    for role in (running.sink, running.server):
        role.kill()
        role.start()
    before = len(running.clickhouse.ask("SELECT id FROM events"))
    await traffic.publish(600)

    async def is_ready() -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
                assert running.server is not None
                return (
                    await client.get(f"{running.server.status_url}/readyz")
                ).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    async def is_written() -> bool:
        return len(await asyncio.to_thread(running.clickhouse.ask, "SELECT id FROM events")) > before + 100

    await _until(is_ready, "a server is not ready with one shard away", running)
    await _until(is_written, "the rows of the other shard are not written", running)
    for org in here:
        answers = [
            await _get(running, f"/me/{path}", org) for path in ("usage", "activity", "activity/events")
        ]
        assert [answer.status_code for answer in answers] == [httpx2.codes.OK] * 3
    for org in there:
        assert (await _get(running, "/me/usage", org)).status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert (await _get(running, "/v1/rankings")).status_code == httpx2.codes.SERVICE_UNAVAILABLE
    health = await _get(running, "/healthz")
    assert health.status_code == httpx2.codes.SERVICE_UNAVAILABLE
    words = health.json()
    assert (words["clickhouse shard 1 of 2"], words["clickhouse shard 2 of 2"] == "ok") == ("ok", False)
    assert (await asyncio.to_thread(_metering, running, "verify")).returncode == 1
    await asyncio.to_thread(running_shards(running)[1].start)
    await running.ready()


async def _wrong_shards_are_refused(running: Apart) -> None:
    one, two = (f"127.0.0.1:{each.port}" for each in running_shards(running))
    for wrong, command in (
        (one, ("verify",)),
        (f"{two};{one}", ("migrate",)),
        (one, ("rebuild", "clickhouse")),
    ):
        url = running.clickhouse_url.replace(f"{one};{two}", wrong)
        done = await asyncio.to_thread(_metering, running, *command, url=url)
        assert done.returncode == 1, (command, done)
        assert "METERING_CLICKHOUSE_URL has a database as shard" in done.stderr, (command, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
