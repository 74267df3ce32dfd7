"""Three brokers under the product and a real Prometheus, one of them on a small disk of its own, and traffic meanwhile.

Owns: what runs, and how the traffic's truth is compared with the books in the end.
Called by: tests/runbooks. Next: tests/support/secured, tests/support/runbooks/node_exporter.py.

The first node alone is a controller: so the cluster still tells how replicas stand when two of three brokers are away, as it
does where controllers are machines of their own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.accounts.commands import SignUp, View
from pipeline.accounts.results import AccountView
from pipeline.catalog.rates import Rate
from pipeline.kafka.catalog import publish_rates
from pipeline.kafka.commands import CommandClient, new_command_id
from tests.support import power
from tests.support.board.prometheus_server import running_prometheus
from tests.support.builders import COMMAND_KEYS
from tests.support.power import Disk
from tests.support.product.processes import Role
from tests.support.product.traffic import RATES
from tests.support.runbooks import node_exporter
from tests.support.runbooks.hands import Hands
from tests.support.runbooks.hurried import write_hurried_rules
from tests.support.runbooks.paged import Paged
from tests.support.secured.cluster import ADMIN, SecuredCluster, password_of
from tests.support.secured.gateways import GatewayTraffic
from tests.support.secured.product import USERS, SecuredProduct, prepared

PARTITIONS, SEED = 2, 7
ORGS = [f"org-{number}" for number in range(8)]
SIGNUP_NANO = 100_000_000_000
EVENTS_PER_S = 10
LIMIT_S = 150.0
SCRAPE = "5s"
"""None of Kafka's alerts is of a window so short that it needs more, and three brokers leave a machine little."""


@dataclass(frozen=True)
class Clustered:
    """The product as its operator sees it."""

    product: SecuredProduct

    @property
    def servers(self) -> str:
        """host:port of each broker."""
        return self.product.cluster.servers

    @property
    def http_url(self) -> str:
        """Where the server is asked."""
        return self.product.http_url

    def roles(self) -> Sequence[Role]:
        """Return every process."""
        return self.product.roles


@dataclass
class Flow:
    """Traffic in a thread of its own, from `start` to `stop`."""

    traffic: GatewayTraffic
    _begun: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin, once the gateways are there."""
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._begun.wait(60)

    def stop(self) -> None:
        """End, when all that was begun has been sent."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        await self.traffic.start()
        self._begun.set()
        await self.traffic.flow(EVENTS_PER_S, self._ending)
        await self.traffic.stop()


@dataclass(kw_only=True)
class BrokersWalk(Paged):
    """Whoever walks through the runbooks of Kafka."""

    product: SecuredProduct
    disk: Disk
    flow: Flow
    runner: asyncio.Runner
    client: CommandClient

    @property
    def cluster(self) -> SecuredCluster:
        """The brokers."""
        return self.product.cluster

    def kill(self, *numbers: int) -> None:
        """End brokers as a crash would."""
        for node in self.cluster.nodes:
            if node.number in numbers:
                node.kill()

    def bring_back(self) -> None:
        """Start what has ended: brokers, and roles as whoever supervises them does."""
        for node in self.cluster.nodes:
            if not node.running:
                self.cluster.restart(node)
        self.runner.run(self.cluster.ready())
        for role in self.product.roles:
            if not role.running:
                role.start()

    def books_agree(self) -> None:
        """End the traffic, and compare all that was taken with what was charged. Raises AssertionError."""
        self.flow.stop()
        traffic = self.flow.traffic
        assert traffic.waiting() == 0, traffic.problems()
        truth, deadline = traffic.truth, time.monotonic() + LIMIT_S
        while (report := self.product.metering("verify", "verify"))["requests"] < len(truth.charged):
            assert time.monotonic() < deadline, f"{report}\n{self.product.words()}"
            time.sleep(1)
        assert (report["requests"], report["differences"]) == (len(truth.charged), [])
        for org in ORGS:
            assert self.runner.run(_balance_nano(self.client, org)) == SIGNUP_NANO - truth.owed_nano[org], org


@contextmanager
def brokers_walk(home: Path, prometheus: str, exporter: str) -> Iterator[BrokersWalk]:
    """Run all of it for as long as the block runs. Skips the test where there can be no disk of its own."""
    cluster = SecuredCluster(home, USERS, nodes=3, controllers=1)
    settings = {"METERING_REPLICATION_FACTOR": "3", "METERING_MIN_INSYNC_REPLICAS": "2"}
    with power.disk(home) as disk, asyncio.Runner() as runner:
        cluster.nodes[2].data = disk.where / "data"
        opening = prepared(cluster, home, PARTITIONS, SEED, settings)
        product = runner.run(opening.__aenter__())
        client = CommandClient(cluster.as_user("operator"), COMMAND_KEYS)
        try:
            for role in ("worker", "sink"):
                product.add(f"{role}-0", role).start()
            product.add_server().start()
            runner.run(_opened(product, client))
            flow = Flow(GatewayTraffic(cluster, home, PARTITIONS, ORGS, nodes=1, seed=SEED))
            flow.start()
            with node_exporter.showing(exporter, disk.where, home) as node:
                targets = {
                    each.command: [each.status_url.removeprefix("http://")] for each in product.roles
                } | {"kafka-node": [node]}
                rules = write_hurried_rules(home)
                with running_prometheus(prometheus, home, targets, rules=rules, interval=SCRAPE) as watching:
                    hands = Hands(
                        Clustered(product), product.environment("operator"), home, _signing_in(cluster)
                    )
                    yield BrokersWalk(
                        prometheus=watching,
                        hands=hands,
                        product=product,
                        disk=disk,
                        flow=flow,
                        runner=runner,
                        client=client,
                    )
        finally:
            runner.run(client.stop())
            runner.run(opening.__aexit__(None, None, None))


async def _opened(product: SecuredProduct, client: CommandClient) -> None:
    """Wait until all is ready, sign up the orgs and publish the rates."""
    await product.ready()
    await client.start()
    for org in ORGS:
        await client.send(SignUp(new_command_id(), org, org, f"{org}@example.in"), 30)
    new = [Rate(model, provider, 0, *nano) for (model, provider), nano in RATES.items()]
    _, end = await publish_rates(product.cluster.as_user("operator"), "metering", lambda *_: new)
    await client.barrier(end)


async def _balance_nano(client: CommandClient, org: str) -> int:
    """Return what an org has, as its partition's owner says."""
    account = await client.send(View(new_command_id(), org), 30)
    assert isinstance(account, AccountView), account
    return account.balance_nano


def _signing_in(cluster: SecuredCluster) -> tuple[str, str]:
    """Return what Kafka's scripts are given so that they sign in as the administrator."""
    file = cluster.home / "client.properties"
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    settings = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": f'{module} username="{ADMIN}" password="{password_of(ADMIN)}";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(cluster.authority.file),
    }
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return "--command-config", str(file)
