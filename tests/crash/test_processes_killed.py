"""The promises over the real parts: real broker, real engine, real processes, killed and frozen.

At the end the product's own `verify` is clean, and a count that shares no code with it agrees.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest_asyncio

from pipeline.accounts.commands import Credit, SignUp, View
from pipeline.api.sessions import issue
from pipeline.catalog.rates import Rate
from pipeline.crashpoints import POINTS
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient
from pipeline.local.broker import Broker
from tests.support.product import DRAIN_LIMIT_S, SESSION_SECRET, Product, product
from tests.support.traffic import RATES, Traffic

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(40)]
SIGNUP_NANO = 100_000_000_000
CREDIT_NANO = 5_000_000_000
CHAOS_S = float(os.environ.get("METERING_TEST_CHAOS_SECONDS", "30"))
"""How long processes are killed and frozen at random; `make crash` takes longer."""
SEED = int(os.environ.get("METERING_TEST_CHAOS_SEED", "7"))


@pytest_asyncio.fixture
async def running(fresh_broker: Broker, tmp_path: Path) -> AsyncIterator[Product]:
    """The product with two workers and a server."""
    async with product(fresh_broker, tmp_path, workers=2, partitions=PARTITIONS) as started:
        yield started


async def _set_up(running: Product) -> CommandClient:
    client = CommandClient(running.servers)
    await client.start()
    rates = [Rate(model, provider, 0, *nano) for (model, provider), nano in RATES.items()]
    _, end = await publish_rates(running.servers, "metering", lambda _: rates)
    await client.barrier(end)
    for org in ORGS[:10]:
        await client.send(SignUp(f"signup-{org}", org, org, f"{org}@example.in"))
    return client


async def _stored(running: Product) -> int:
    """Return how many requests the activity answers show over all orgs."""
    total = 0
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
        for org in ORGS:
            token = issue(SESSION_SECRET, org, "owner", "", int(time.time() * 1000))
            answer = await client.get(
                f"{running.http_url}/me/usage", headers={"Authorization": f"Bearer {token}"}
            )
            if answer.status_code == httpx2.codes.OK:
                total += json.loads(answer.content)["totals"]["last_30_days"]["requests"]
    return total


async def _drained(running: Product, expected: int) -> None:
    deadline = time.monotonic() + DRAIN_LIMIT_S
    found = -1
    while time.monotonic() < deadline:
        running.revive()
        try:
            found = await _stored(running)
        except httpx2.HTTPError:
            found = -1
        if found >= expected:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{found} of {expected} requests are stored\n{running.all_words()}")


async def _books_agree(
    running: Product, client: CommandClient, traffic: Traffic, credited_nano: dict[str, int]
) -> None:
    await running.ready()
    await _drained(running, len(traffic.truth.charged))
    report = await running.verify()
    assert report.differences == []
    assert report.requests == len(traffic.truth.charged)
    for org in ORGS:
        account = json.loads(bytes((await client.send(View(f"view-{org}", org), 30)).result))
        assert account["balance_nano"] == credited_nano.get(org, 0) - traffic.truth.owed_nano[org], org


async def _chaos(running: Product, seed: int, seconds: float) -> dict[str, int]:
    """Kill, freeze, add and restart at random; return what was done how often."""
    draw = random.Random(seed)
    done = {"worker killed": 0, "worker frozen": 0, "server killed": 0, "worker joined": 0}
    deadline = time.monotonic() + seconds
    assert running.server is not None
    while time.monotonic() < deadline:
        await asyncio.sleep(draw.uniform(0.5, 3))
        choice = draw.random()
        worker = draw.choice(running.workers)
        if choice < 0.6:
            worker.kill()
            worker.start()
            done["worker killed"] += 1
        elif choice < 0.7 and len(running.workers) < 3:
            running.add_worker().start()
            done["worker joined"] += 1
        elif choice < 0.8:
            running.server.kill()
            running.server.start()
            done["server killed"] += 1
        else:
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(12)
            worker.signal(signal.SIGCONT)
            done["worker frozen"] += 1
        running.revive()
    return done


async def test_nothing_is_lost_or_doubled_when_processes_are_killed(running: Product) -> None:
    """Two and three workers and the server, killed and frozen under load."""
    client = await _set_up(running)
    traffic = Traffic(running.servers, PARTITIONS, ORGS, seed=SEED)
    await traffic.start()
    chaos = asyncio.create_task(_chaos(running, seed=SEED, seconds=CHAOS_S))
    while not chaos.done():
        await traffic.publish(150)
        await asyncio.sleep(0.05)
    done = chaos.result()
    print(done, len(traffic.truth.charged), "events,", traffic.truth.duplicates, "duplicates")
    await _revive(running)
    for org in ORGS[:5]:
        for _ in range(2):
            await client.send(Credit(f"credit-{org}", org, CREDIT_NANO, "after the storm"), 60)
    credited_nano = dict.fromkeys(ORGS[:10], SIGNUP_NANO)
    for org in ORGS[:5]:
        credited_nano[org] += CREDIT_NANO
    await _books_agree(running, client, traffic, credited_nano)
    assert done["worker killed"] > 0
    await traffic.stop()
    await client.stop()


async def _revive(running: Product) -> None:
    for role in running.roles():
        role.signal(signal.SIGCONT)
    await running.ready()


async def test_every_named_crash_point_is_survived(running: Product) -> None:
    """Each point between two steps is reached and ends the process there; the books agree after all."""
    client = await _set_up(running)
    traffic = Traffic(running.servers, PARTITIONS, ORGS, seed=11)
    await traffic.start()
    assert running.server is not None
    for point in POINTS:
        role = running.server if point.startswith("sink") else running.workers[0]
        role.kill()
        if role is not running.server:
            running.workers[1].kill()
        role.start(crash_at=point)
        deadline = time.monotonic() + 60
        while role.running:
            assert time.monotonic() < deadline, f"{point} was not reached\n{running.all_words()}"
            await traffic.publish(40)
            await asyncio.sleep(0.1)
        assert role.process is not None
        assert role.process.returncode == -signal.SIGKILL, f"{point}\n{role.words()}"
        role.start()
        running.workers[1].kill()
        running.workers[1].start()
        await traffic.publish(100)
    await _revive(running)
    await _books_agree(running, client, traffic, dict.fromkeys(ORGS[:10], SIGNUP_NANO))
    await traffic.stop()
    await client.stop()


async def test_a_broker_killed_and_restarted_loses_nothing(running: Product, fresh_broker: Broker) -> None:
    """Events acknowledged before the broker died are charged once it is back."""
    client = await _set_up(running)
    traffic = Traffic(running.servers, PARTITIONS, ORGS, seed=13)
    await traffic.start()
    await traffic.publish(2_000)
    await fresh_broker.stop(seconds_max=0)
    await fresh_broker.start()
    await traffic.publish(500)
    await _revive(running)
    await _books_agree(running, client, traffic, dict.fromkeys(ORGS[:10], SIGNUP_NANO))
    await traffic.stop()
    await client.stop()
