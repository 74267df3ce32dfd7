"""Three brokers die and freeze in turn, the controller among them, under the running product; the books stay exact.

Three KRaft nodes with TLS, passwords and rights, replication 3 and two in-sync replicas at least; two workers, a sink, a
server and two gateways under traffic, each as a user of its own. After each death the time is taken until the owner of every
partition answers a command and every role is ready, then the node comes back, and the next one waits until all replicas are in sync again. In
the end every event is charged once, balances are right to the nano-rupee, `metering verify` is clean, and no
process of ours has ended by itself.

`make test` has three of them die, `make cluster` more (METERING_TEST_BROKER_DEATHS says how many).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka.errors import KafkaError

from pipeline.accounts.commands import SignUp, View
from pipeline.accounts.results import AccountView
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.clients import started_admin
from pipeline.kafka.commands import CommandClient, UnavailableError, new_command_id
from tests.support.builders import COMMAND_KEYS
from tests.support.product.traffic import RATES
from tests.support.secured.cluster import Node, SecuredCluster
from tests.support.secured.gateways import GatewayTraffic
from tests.support.secured.product import USERS, SecuredProduct, prepared

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTITIONS = 4
ORGS = [f"org-{n}" for n in range(20)]
SIGNUP_NANO = 100_000_000_000
DEATHS = int(os.environ.get("METERING_TEST_BROKER_DEATHS", "3"))
SEED = int(os.environ.get("METERING_TEST_CHAOS_SEED", "7"))
EVENTS_PER_S = 60
FROZEN_S = 15.0
"""Longer than the 9 s after which the cluster takes a silent broker for dead."""
LIMIT_S = 120.0
LEADER = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+)\S* .*Completed transition to Leader\(")


@dataclass
class Deployment:
    """What runs."""

    cluster: SecuredCluster
    product: SecuredProduct
    traffic: GatewayTraffic
    client: CommandClient
    recovered_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    killed: Counter[str] = field(default_factory=Counter)


@pytest_asyncio.fixture(loop_scope="module")
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """The product on three brokers, ready, with orgs and rates."""
    cluster = SecuredCluster(tmp_path, USERS, nodes=3)
    settings = {"METERING_REPLICATION_FACTOR": "3", "METERING_MIN_INSYNC_REPLICAS": "2"}
    traffic = GatewayTraffic(cluster, tmp_path, PARTITIONS, ORGS, nodes=2, seed=SEED)
    client = CommandClient(cluster.as_user("operator"), COMMAND_KEYS)
    async with prepared(cluster, tmp_path, PARTITIONS, SEED, settings) as product:
        try:
            for number in range(2):
                product.add(f"worker-{number}", "worker").start()
            product.add("sink-0", "sink").start()
            product.add_server().start()
            await product.ready()
            await client.start()
            for org in ORGS:
                await client.send(SignUp(new_command_id(), org, org, f"{org}@example.in"), 30)
            new = [Rate(model, provider, 0, *nano) for (model, provider), nano in RATES.items()]
            _, end = await publish_rates(cluster.as_user("operator"), "metering", lambda *_: new)
            await client.barrier(end)
            await traffic.start()
            yield Deployment(cluster, product, traffic, client)
        finally:
            await client.stop()


@pytest.mark.timeout(300 + 120 * DEATHS)
async def test_brokers_die_in_turn_and_the_books_stay_exact(deployment: Deployment) -> None:
    draw = random.Random(SEED)
    ending = asyncio.Event()
    flowing = asyncio.create_task(deployment.traffic.flow(EVENTS_PER_S, ending))
    kinds = ["killed", "frozen", "controller killed", "controller frozen"]
    try:
        for number in range(DEATHS):
            kind = kinds[number % len(kinds)]
            controller = _controller(deployment.cluster)
            others = [node for node in deployment.cluster.nodes if node is not controller]
            node = controller if kind.startswith("controller") else draw.choice(others)
            took_s = await _dies(deployment, node, kind)
            if number % 5 == 4 or number == DEATHS - 1:
                await _worker_dies(deployment, draw)
            print(
                f"{number + 1}: node {node.number} {kind}, owners answer after {took_s:.1f} s, "
                f"{len(deployment.traffic.truth.charged)} events, {deployment.traffic.waiting()} in spools",
                flush=True,
            )
            assert not flowing.done(), flowing.exception()
            _nothing_ended(deployment)
    finally:
        ending.set()
        await flowing
    await deployment.traffic.stop()
    assert deployment.traffic.waiting() == 0, deployment.traffic.problems()
    await _books_agree(deployment)
    _nothing_ended(deployment)
    for role in deployment.product.roles:
        assert "was never retrieved" not in role.log.read_text(), (
            f"{role.name} tells a lost request as a traceback"
        )
    for kind, times in deployment.recovered_s.items():
        print(
            f"{kind}: {len(times)} times, owners of all partitions answer after {statistics.median(times):.1f} s "
            f"(median), {max(times):.1f} s at most"
        )
    print(f"{len(deployment.traffic.truth.charged)} events exact, workers killed: {dict(deployment.killed)}")


async def _dies(deployment: Deployment, node: Node, kind: str) -> float:
    """Kill or freeze a node, take the time until every owner answers, and have it back with all replicas in sync."""
    since_s = time.monotonic()
    if kind.endswith("frozen"):
        node.signal(signal.SIGSTOP)
    else:
        node.kill()
    took_s = await _owners_answer(deployment, since_s)
    deployment.recovered_s[kind].append(took_s)
    # While it is still away: two of three are enough for every part of the product.
    await deployment.product.ready()
    if kind.endswith("frozen"):
        await asyncio.sleep(max(0.0, FROZEN_S - (time.monotonic() - since_s)))
        node.signal(signal.SIGCONT)
    else:
        deployment.cluster.restart(node)
    await _in_sync(deployment.cluster)
    return took_s


async def _worker_dies(deployment: Deployment, draw: random.Random) -> None:
    """Kill a worker, and start it again as a supervisor does."""
    worker = draw.choice([role for role in deployment.product.roles if role.command == "worker"])
    since_s = time.monotonic()
    worker.kill()
    worker.start()
    deployment.killed[worker.name] += 1
    deployment.recovered_s["worker killed"].append(await _owners_answer(deployment, since_s))


async def _owners_answer(deployment: Deployment, since_s: float) -> float:
    """Return after how many seconds the owner of every partition has answered a question asked since then."""

    async def answers(partition: int) -> float:
        while True:
            try:
                await deployment.client.ask_owner(partition, 5)
            except UnavailableError:
                waited_s = time.monotonic() - since_s
                assert waited_s < LIMIT_S, f"partition {partition}\n{deployment.product.words()}"
                continue
            return time.monotonic() - since_s

    return max(await asyncio.gather(*map(answers, range(PARTITIONS))))


async def _in_sync(cluster: SecuredCluster) -> None:
    """Return once all three nodes are there and every partition has three replicas in sync."""
    await cluster.ready()
    until = time.monotonic() + LIMIT_S
    behind: list[str] = ["not asked yet"]
    while behind:
        assert time.monotonic() < until, f"{behind}\n{cluster.words()}"
        try:
            async with (
                asyncio.timeout(15),
                started_admin(cluster.connection, request_timeout_ms=5_000) as admin,
            ):
                described = await admin.describe_topics()
        except (KafkaError, OSError, TimeoutError) as error:
            behind = [repr(error)]
            continue
        behind = [
            f"{topic['topic']}/{partition['partition']}"
            for topic in described
            for partition in topic["partitions"]
            if len(partition["isr"]) < len(cluster.nodes)
        ]
        await asyncio.sleep(0.5)


def _controller(cluster: SecuredCluster) -> Node:
    """Return the node that became the active controller last, by what the nodes have logged."""
    became = {
        max(LEADER.findall(node.log.read_text(errors="replace")), default=""): node for node in cluster.nodes
    }
    return became[max(became)]


def _nothing_ended(deployment: Deployment) -> None:
    for role in deployment.product.roles:
        assert role.running, f"{role.name} ended\n{role.words()}"


async def _books_agree(deployment: Deployment) -> None:
    """Wait until all is stored, then compare what the product says with what was published."""
    truth, deadline = deployment.traffic.truth, time.monotonic() + LIMIT_S
    while True:
        report = deployment.product.metering("verify", "verify")
        if report["requests"] >= len(truth.charged):
            break
        assert time.monotonic() < deadline, f"{report}\n{deployment.product.words()}"
        await asyncio.sleep(1)
    assert (report["requests"], report["differences"]) == (len(truth.charged), [])
    for org in ORGS:
        account = await deployment.client.send(View(new_command_id(), org), 30)
        assert isinstance(account, AccountView), account
        assert account.balance_nano == SIGNUP_NANO - truth.owed_nano[org], org
