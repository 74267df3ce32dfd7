"""The drill of docs/deploy.md, «When the cluster is lost», with real processes on two clusters of one broker each.

The first cluster runs the product under traffic while its topics are copied, and the copier is killed again and again. Then
the first broker and its disk are gone. What the second one has is compared to the nano-rupee with what was sent before the
offsets that the promotion names; what gateways send again is charged once.

Not in `make test`: `make drill` runs it in about two minutes and prints the times.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from pipeline.accounts.commands import SignUp, View
from pipeline.accounts.results import AccountView
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, new_command_id
from pipeline.local.broker import Broker
from pipeline.posting.state import StateError
from pipeline.worker.app import EXIT_SOFTWARE
from tests.support import parts
from tests.support.builders import COMMAND_KEYS
from tests.support.product.processes import Product, Role, product, started
from tests.support.product.traffic import RATES, TOPIC, Traffic

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(20)]
SIGNED_UP = ORGS[:8]
SIGNUP_NANO = 100_000_000_000
LATER_PRICED = {("beta", "three"): (20_000, 20_000, 80_000)}
BEFORE_THE_COPY, BETWEEN_KILLS, NOT_COPIED, AFTERWARDS = 4_000, 500, 300, 500
COPIER_KILLS = 3
LIMIT_S = 150.0


@dataclass(frozen=True)
class Sent:
    """A record that the first cluster has acknowledged."""

    partition: int
    offset: int
    value: bytes


class NotedTraffic(Traffic):
    """Traffic of which each acknowledged record is noted."""

    def __init__(self, servers: str, partitions: int, orgs: list[str], seed: int) -> None:
        """Prepare; `start` connects."""
        super().__init__(servers, partitions, orgs, seed)
        self.sent: list[Sent] = []

    def to(self, servers: str) -> NotedTraffic:
        """Return the same traffic for another cluster, going on where this one ended; not connected."""
        other = copy.copy(self)
        other._servers = servers
        return other

    async def _send(self, partition: int, value: bytes) -> None:
        metadata = await self._producer.send_and_wait(TOPIC, value, partition=partition)
        self.sent.append(Sent(partition, metadata.offset, value))


def owed_nano(values: Iterable[bytes]) -> dict[str, int]:
    """Return what each org owes for the events in these records, each event once. Shares no code with the product."""
    seen: set[tuple[str, str]] = set()
    owed: dict[str, int] = defaultdict(int)
    rates = RATES | LATER_PRICED
    for value in values:
        try:
            decoded = json.loads(value)
        except json.JSONDecodeError:
            continue
        for one in decoded if isinstance(decoded, list) else [decoded]:
            data, usage, name = one["data"], one["data"]["usage"], (one["source"], one["id"])
            if name in seen:
                continue
            seen.add(name)
            if data["tier"] == "trial" or data["byok"] or data["status"] >= 400:
                continue
            prompt, cached, output = rates[data["model"], data["provider"]]
            from_cache = usage["prompt_tokens_details"]["cached_tokens"]
            owed[one["subject"]] += (
                (usage["prompt_tokens"] - from_cache) * prompt
                + from_cache * cached
                + usage["completion_tokens"] * output
            )
    return owed


def events_in(values: Iterable[bytes]) -> int:
    """Return how many different events are in these records."""
    names = set()
    for value in values:
        try:
            decoded = json.loads(value)
        except json.JSONDecodeError:
            continue
        names |= {(one["source"], one["id"]) for one in (decoded if isinstance(decoded, list) else [decoded])}
    return len(names)


@dataclass
class Drill:
    """Two clusters, the product on the first of them, and what it was sent."""

    first: Broker
    second: Broker
    home: Path
    running: Product
    client: CommandClient
    traffic: NotedTraffic
    copier: Role
    credited_nano: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

    def note(self, done: str) -> None:
        """Tell what has been done, for the log."""
        print(
            f"{time.monotonic() - self.began_s:6.1f} s  {len(self.traffic.sent):6} records  {done}",
            flush=True,
        )

    def metering(self, broker: Broker, *arguments: str) -> Any:
        """Run a command against a cluster and return what it prints; it must succeed."""
        done = self.command(broker, *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def command(self, broker: Broker, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command against a cluster."""
        assert self.running.server is not None
        environment = {**self.running.server.environment, "METERING_KAFKA_URL": broker.url}
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    async def sign_up(self) -> None:
        """Sign some orgs up; the others have accounts that open at 0."""
        for org in SIGNED_UP:
            await self.client.send(SignUp(f"signup-{org}", org, org, f"{org}@example.in"))
            self.credited_nano[org] += SIGNUP_NANO

    async def price(self, rates: dict[tuple[str, str], tuple[int, int, int]]) -> None:
        """Publish rates, and return when every owner knows them."""
        new = [Rate(model, provider, 0, *nano) for (model, provider), nano in rates.items()]
        _, end = await publish_rates(self.running.connection, "metering", lambda *_: new)
        await self.client.barrier(end)

    async def balances_are(self, client: CommandClient, running: Product, values: list[bytes]) -> None:
        """Wait until every balance is what these records come to."""
        owed = owed_nano(values)
        until = time.monotonic() + LIMIT_S
        for org in ORGS:
            expected = self.credited_nano[org] - owed[org]
            while (found := await _balance_nano(client, org)) != expected:
                assert time.monotonic() < until, f"{org}: {found} and not {expected}\n{running.all_words()}"
                await asyncio.sleep(0.1)

    async def copy_is_newer_than(self, at_s: float) -> dict[str, Any]:
        """Wait until the copy can be used and holds all that was there at an instant."""
        until = time.monotonic() + LIMIT_S
        while True:
            done = await asyncio.to_thread(self.command, self.second, "mirror", "--status")
            told: dict[str, Any] = json.loads(done.stdout or "{}")
            if told and told["usable"] and time.time() - told["age_s"] > at_s:
                return told
            assert done.returncode == 0 or "there is no copy" in done.stderr, done.stderr
            assert time.monotonic() < until, f"{told}\n{self.copier.words()}"

    async def lose_the_first(self) -> None:
        """Take the first broker and its disk away, with everything that ran on it."""
        os.kill(self.first.process.pid, signal.SIGKILL)
        shutil.rmtree(self.first.home)
        await self.disconnect()
        self.running.stop()

    async def disconnect(self) -> None:
        """Disconnect from the first cluster. Safe to repeat."""
        await self.client.stop()
        await self.traffic.stop()


async def _balance_nano(client: CommandClient, org: str) -> int:
    account = await client.send(View(new_command_id(), org), 30)
    assert isinstance(account, AccountView), account
    return account.balance_nano


@pytest.fixture
def second() -> Iterator[Broker]:
    """The cluster that the first one is copied to."""
    with parts.own_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def drill(fresh_broker: Broker, second: Broker, tmp_path: Path) -> AsyncIterator[Drill]:
    """The product on the first of two clusters, with rates and some orgs."""
    home = tmp_path / "first"
    home.mkdir()
    async with product(fresh_broker, home, workers=1, partitions=PARTITIONS) as running:
        client = CommandClient(running.connection, COMMAND_KEYS)
        await client.start()
        traffic = NotedTraffic(running.servers, PARTITIONS, ORGS, seed=7)
        await traffic.start()
        copier = running._role("mirror", "mirror")
        copier.arguments = ("--to", second.url)
        made = Drill(fresh_broker, second, tmp_path, running, client, traffic, copier)
        await made.price(RATES)
        await made.sign_up()
        yield made
        copier.kill()
        await made.disconnect()


async def test_the_first_cluster_is_lost_and_the_second_goes_on(drill: Drill) -> None:
    redriven = await _a_past(drill)
    going_on = Product(drill.second, drill.home / "second")
    going_on.home.mkdir()
    await _copied_under_traffic(drill, going_on)
    sink = going_on._role("sink", "sink")
    try:
        await _fills_its_database(drill, sink)
        lost_at_s = await _lost(drill)
        sink.signal(signal.SIGTERM)
        assert sink.process is not None
        assert await asyncio.to_thread(sink.process.wait, LIMIT_S) == 0, sink.words()
    finally:
        sink.kill()
    copied = _promoted(drill, lost_at_s)
    async with started(going_on, workers=1, partitions=PARTITIONS):
        drill.note(f"worker, sink and server are ready {time.monotonic() - lost_at_s:.1f} s after the loss")
        client = CommandClient(going_on.connection, COMMAND_KEYS)
        await client.start()
        await drill.balances_are(client, going_on, _values(copied))
        drill.note(f"every balance is right {time.monotonic() - lost_at_s:.1f} s after the loss")
        everything = await _sent_again(drill, client, going_on)
        # With an operator's word all letters are read, and not only those from the first one that waits.
        again = drill.metering(drill.second, "redrive", "--leaps")
        assert (again["redriven"], again["earlier"]) == (0, redriven)
        await _verified(drill, going_on, everything)
        await client.stop()


async def _a_past(drill: Drill) -> int:
    """Charge much before the copy begins, dead letters that were redriven among it; return how many those are."""
    drill.traffic.rates = RATES | LATER_PRICED
    await drill.traffic.publish(BEFORE_THE_COPY // 10)
    drill.traffic.rates = RATES
    await drill.traffic.publish(BEFORE_THE_COPY)
    await drill.balances_are(drill.client, drill.running, _priced(drill.traffic.sent))
    await drill.price(LATER_PRICED)
    redriven = drill.metering(drill.first, "redrive")["redriven"]
    assert redriven > 0
    await drill.balances_are(drill.client, drill.running, _values(drill.traffic.sent))
    drill.note(f"the first cluster is right, {redriven} letters redriven")
    return int(redriven)


async def _copied_under_traffic(drill: Drill, going_on: Product) -> None:
    """Copy, and kill the copier under traffic again and again; a worker that is started on the copy ends."""
    began_s = time.time()
    drill.copier.start()
    await drill.copy_is_newer_than(began_s)
    drill.note(f"the copy has caught up {time.time() - began_s:.1f} s after its copier's start")
    early = going_on.add_worker(named=False)
    early.start()
    for _ in range(COPIER_KILLS):
        await drill.traffic.publish(BETWEEN_KILLS)
        drill.copier.kill()
        drill.copier.start()
        await drill.traffic.publish(BETWEEN_KILLS)
    told = await drill.copy_is_newer_than(time.time())
    drill.note(f"copied on after {COPIER_KILLS} kills of the copier; as of {told['age_s']} s ago")
    assert early.process is not None
    assert await asyncio.to_thread(early.process.wait, LIMIT_S) == EXIT_SOFTWARE
    assert StateError.__name__ in early.words()
    assert "metering mirror --promote" in early.words()
    going_on.workers.clear()


async def _fills_its_database(drill: Drill, sink: Role) -> None:
    """Start a sink on the copy, while the first cluster works, and wait until it is at work."""
    migrated = subprocess.run(
        [sys.executable, "-m", "pipeline", "migrate"], env=sink.environment, check=False
    )
    assert migrated.returncode == 0
    sink.start()
    url = f"http://127.0.0.1:{sink.environment['METERING_WORKER_PORT']}/healthz"
    until = time.monotonic() + LIMIT_S
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            assert time.monotonic() < until, sink.words()
            try:
                if (await client.get(url)).status_code == httpx2.codes.OK:
                    break
            except httpx2.HTTPError:
                await asyncio.sleep(0.2)
    drill.note("a sink writes the copied journal into a database of its own")


async def _lost(drill: Drill) -> float:
    """Lose the first cluster under traffic, with its copier cut off a moment before; return when, on the monotonic clock."""
    await drill.traffic.publish(BETWEEN_KILLS)
    drill.copier.signal(signal.SIGSTOP)
    await drill.traffic.publish(NOT_COPIED)
    lost_at_s = time.monotonic()
    await drill.lose_the_first()
    drill.copier.kill()
    drill.note("the first broker and its disk are gone")
    return lost_at_s


def _promoted(drill: Drill, lost_at_s: float) -> list[Sent]:
    """Make the copy the deployment's own; return what it holds by what that says."""
    promoted = drill.metering(drill.second, "mirror", "--promote")
    after_s = time.monotonic() - lost_at_s
    before = {p: promoted["copied_before"][f"{TOPIC}/{p}"] for p in range(PARTITIONS)}
    copied = [sent for sent in drill.traffic.sent if sent.offset < before[sent.partition]]
    lost = events_in(_values(drill.traffic.sent)) - events_in(_values(copied))
    assert 0 < lost <= NOT_COPIED + 2 * BETWEEN_KILLS
    drill.note(
        f"promoted {after_s:.1f} s after the loss: {lost} events of the last {promoted['age_s'] - after_s:.1f} s lost"
    )
    return copied


async def _sent_again(drill: Drill, client: CommandClient, going_on: Product) -> list[bytes]:
    """Send all that was ever sent once more, and something new; return all of it."""
    traffic = drill.traffic.to(going_on.servers)
    await traffic.start()
    before = list(traffic.sent)
    for sent in before:
        await traffic._send(sent.partition, sent.value)
    await drill.balances_are(client, going_on, _values(before))
    drill.note("all was sent again: what was copied is known, what was lost is charged")
    await traffic.publish(AFTERWARDS)
    await drill.balances_are(client, going_on, _values(traffic.sent))
    await traffic.stop()
    return _values(traffic.sent)


async def _verified(drill: Drill, going_on: Product, everything: list[bytes]) -> None:
    """Compare the books with each other, and with what the second cluster's sink has made of the journal."""
    until = time.monotonic() + LIMIT_S
    while (report := await going_on.verify()).requests < events_in(everything):
        assert time.monotonic() < until, report
        await asyncio.sleep(0.5)
    assert report.differences == []
    assert report.requests == events_in(everything)
    drill.note(f"verified: {report.requests} requests, no difference")


def _values(sent: Iterable[Sent]) -> list[bytes]:
    return [each.value for each in sent]


def _priced(sent: Iterable[Sent]) -> list[bytes]:
    """Return the records without the events whose rate came later."""
    kept = []
    for value in _values(sent):
        try:
            decoded = json.loads(value)
        except json.JSONDecodeError:
            continue
        events = decoded if isinstance(decoded, list) else [decoded]
        kept.append(
            json.dumps([e for e in events if (e["data"]["model"], e["data"]["provider"]) in RATES]).encode()
        )
    return kept
