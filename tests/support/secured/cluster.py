"""Kafka with TLS, passwords and rights: one node or several, from the same jars as the embedded broker.

Owns: the settings of such a cluster, its users, and its nodes as processes that a test kills and freezes.
Called by: tests/integration/test_secured.py and tests/cluster.

Clients sign in over SASL_SSL with SCRAM-SHA-512, and nobody may do anything that was not granted to him; the nodes know
each other by their certificates on the controllers' port, and by a user of their own elsewhere.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.errors import KafkaError

from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.kafka.clients import started_admin
from pipeline.local import broker as embedded
from pipeline.local import jars, processes
from tests.support import ports
from tests.support.secured.certificates import Authority, Identity

ADMIN = "admin"
"""The user that may do everything."""
CLUSTER_ID = "bWV0ZXJpbmctdGVzdHMtMQ"
READY_S = 90.0
HEAP = "-Xmx400m"


def password_of(user: str) -> str:
    """Return a user's password."""
    return f"password-of-{user}"


@dataclass(frozen=True)
class Door:
    """One more port of a single node: its protocol, the certificate that it shows, and more of its settings."""

    protocol: str
    identity: Identity
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=ports.free)


@dataclass
class Node:
    """A node: a broker, and a controller at once where `is_controller`. `data` is where its logs are."""

    number: int
    home: Path
    port: int
    controller_port: int
    data: Path
    is_controller: bool = True
    process: processes.Process | None = None

    @property
    def log(self) -> Path:
        """Where its words go."""
        return self.home / "broker.log"

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process is not None and self.running:
            self.process.popen.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.popen.wait()

    def start(self, class_path: str) -> None:
        """Start it; it dies with the tests."""
        with self.log.open("ab") as log:
            self.process = processes.start(
                f"broker {self.number}",
                embedded.java(class_path, "kafka.Kafka", str(self.home / "server.properties"), heap=HEAP),
                output=log,
            )


class SecuredCluster:
    """One node or several, and their users."""

    def __init__(
        self,
        home: Path,
        users: Iterable[str],
        *,
        nodes: int = 1,
        controllers: int | None = None,
        **settings: str,
    ) -> None:
        """Prepare; nothing runs before `start`. `settings` are added to the nodes', dots written as two underscores.

        The first so many nodes are `controllers`, all of them where it is None.
        """
        self.home = home
        self.authority = Authority(home)
        self._users = (ADMIN, *users)
        self._settings = {name.replace("__", "."): value for name, value in settings.items()}
        self.nodes = [
            Node(
                *(number, home / f"node-{number}", ports.free(), ports.free()),
                data=home / f"node-{number}" / "data",
                is_controller=controllers is None or number <= controllers,
            )
            for number in range(1, nodes + 1)
        ]
        self._class_path = ""
        self.doors: dict[str, Door] = {}
        """More ports by the names of their listeners, to be set before `start`."""

    @property
    def servers(self) -> str:
        """host:port of each node, after commas."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def door(self, name: str) -> str:
        """host:port of one more port."""
        return f"127.0.0.1:{self.doors[name].port}"

    @property
    def url(self) -> str:
        """The brokers as settings take them."""
        return f"kafka://{self.servers}"

    @property
    def connection(self) -> KafkaConnection:
        """How the administrator reaches them."""
        return self.as_user(ADMIN)

    def as_user(self, user: str) -> KafkaConnection:
        """Return how a user reaches them."""
        return KafkaConnection(self.servers, self.security(user))

    def security(self, user: str) -> KafkaSecurity:
        """Return how a user signs in."""
        return KafkaSecurity(
            "SASL_SSL", "SCRAM-SHA-512", user, password_of(user), ca_file=str(self.authority.file)
        )

    def environment(self, user: str) -> dict[str, str]:
        """Return the variables of a process that works as a user."""
        return {"METERING_KAFKA_URL": self.url, **self.security(user).environment()}

    async def start(self) -> None:
        """Format and start all nodes, and return once the administrator is answered by each. Raises AssertionError."""
        self._class_path = ":".join(str(jar) for jar in jars.ensure())
        for node in self.nodes:
            node.home.mkdir()
            self.present(node, self.authority.issue(f"node-{node.number}"))
        await asyncio.gather(*map(self._format, self.nodes))
        for node in self.nodes:
            node.start(self._class_path)
        await self.ready()

    def present(self, node: Node, identity: Identity) -> None:
        """Have a node show a certificate from its next start on."""
        path = node.home / "server.properties"
        path.write_text(
            "".join(f"{name}={value}\n" for name, value in self._properties(node, identity).items())
        )

    def restart(self, node: Node) -> None:
        """Start a node that was ended."""
        node.start(self._class_path)

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()

    async def ready(self, seconds_max: float = READY_S) -> None:
        """Return once every node that runs is one of the cluster. Raises AssertionError."""
        wanted = {node.number for node in self.nodes if node.running}
        until = asyncio.get_running_loop().time() + seconds_max
        known: set[int] = set()
        while known != wanted:
            for node in self.nodes:
                assert node.running or node.number not in wanted, self.words()
            assert asyncio.get_running_loop().time() < until, f"{known} of {wanted}\n{self.words()}"
            await asyncio.sleep(0.3)
            known = await self._known()

    async def _known(self) -> set[int]:
        """Return the nodes that answer and that the cluster knows of."""
        found: set[int] = set()
        for node in self.nodes:
            alone = KafkaConnection(f"127.0.0.1:{node.port}", self.security(ADMIN))
            try:
                async with asyncio.timeout(10), started_admin(alone, request_timeout_ms=5_000) as admin:
                    described = await admin.describe_cluster()
            except (OSError, KafkaError, TimeoutError):
                continue
            if node.number in {broker["node_id"] for broker in described["brokers"]}:
                found.add(node.number)
        return found

    def words(self) -> str:
        """Return the last words of each node."""
        return "\n".join(
            f"--- node {node.number}\n{node.log.read_text(errors='replace')[-3000:]}"
            for node in self.nodes
            if node.log.exists()
        )

    async def _format(self, node: Node) -> None:
        scram = [
            part
            for user in self._users
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password_of(user)}]")
        ]
        settings = str(node.home / "server.properties")
        arguments = ["format", "--cluster-id", CLUSTER_ID, "--config", settings, *scram]
        with node.log.open("ab") as log:
            formatting = processes.start(
                "the format",
                embedded.java(self._class_path, "kafka.tools.StorageTool", *arguments),
                output=log,
            )
        assert await asyncio.wait_for(formatting.wait(), 60) == 0, self.words()

    def _properties(self, node: Node, identity: Identity) -> dict[str, str]:
        copies = str(len(self.nodes))
        least = str(max(1, len(self.nodes) - 1))
        scram = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{ADMIN}" password="{password_of(ADMIN)}";'
        )
        listeners = ",".join(
            [
                f"CLIENTS://127.0.0.1:{node.port}",
                *(f"{name}://127.0.0.1:{door.port}" for name, door in self.doors.items()),
            ]
        )
        return {
            **embedded.SETTINGS,
            "process.roles": "broker,controller" if node.is_controller else "broker",
            "node.id": str(node.number),
            "inter.broker.listener.name": "CLIENTS",
            "listener.security.protocol.map": ",".join(
                [
                    "CLIENTS:SASL_SSL,CONTROLLER:SSL",
                    *(f"{name}:{door.protocol}" for name, door in self.doors.items()),
                ]
            ),
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{node.controller_port}"
            if node.is_controller
            else listeners,
            "advertised.listeners": listeners,
            "controller.quorum.voters": ",".join(
                f"{each.number}@127.0.0.1:{each.controller_port}" for each in self.nodes if each.is_controller
            ),
            "log.dirs": str(node.data),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(identity.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.file),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": ";".join(
                [f"User:{ADMIN}", *(f"User:CN=node-{each.number}" for each in self.nodes)]
            ),
            "default.replication.factor": copies,
            "min.insync.replicas": least,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": least,
            **self._settings,
            **_of_doors(self.doors, scram),
        }


def _of_doors(doors: Mapping[str, Door], scram: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, door in doors.items():
        prefix = f"listener.name.{name.lower()}"
        settings = {
            "scram-sha-512.sasl.jaas.config": scram,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(door.identity.both),
            **door.settings,
        }
        found |= {f"{prefix}.{key}": value for key, value in settings.items()}
    return found
