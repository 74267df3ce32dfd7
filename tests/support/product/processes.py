"""The product as real processes, for tests that kill them.

Owns: starting a broker, workers and the server with their environment, and waiting for them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2

from pipeline.cli.engine_work import asking_server
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.local.broker import Broker
from pipeline.operations.verify import Report, verify
from pipeline.settings import Settings
from tests.support import ports
from tests.support.builders import COMMAND_KEY, NOTARY_KEY

OPERATOR_TOKEN = "operator-token-of-the-tests-0123456789"
SESSION_SECRET = "session-secret-of-the-tests-0123456789"
START_LIMIT_S = 60.0
DRAIN_LIMIT_S = 120.0


@dataclass
class Role:
    """One process of the product. `log` is where its words go; `program` is another release's, where that is played."""

    name: str
    command: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    program: str = "pipeline"
    arguments: tuple[str, ...] = ()

    def start(self, crash_at: str | None = None) -> None:
        """Start it; `crash_at` makes it end itself at a named point."""
        environment = {**self.environment, **({"METERING_CRASH_AT": crash_at} if crash_at else {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, self.command, *self.arguments],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    @property
    def status_url(self) -> str:
        """Where it says how it is."""
        port = self.environment[
            "METERING_SERVER_STATUS_PORT" if self.command == "server" else "METERING_WORKER_PORT"
        ]
        return f"http://127.0.0.1:{port}"

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process is not None and self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.deaths += 1

    def words(self) -> str:
        """Return the last of what it said."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


@dataclass
class Product:
    """A deployment of real processes around one broker."""

    broker: Broker
    home: Path
    workers: list[Role] = field(default_factory=list)
    server: Role | None = None
    http_url: str = ""

    @property
    def servers(self) -> str:
        """host:port of the broker."""
        return self.broker.servers

    @property
    def connection(self) -> KafkaConnection:
        """How this project's own clients reach the broker."""
        return self.broker.connection

    def add_worker(self, *, named: bool = True) -> Role:
        """Add one more worker, not yet started. `named`: its group knows it when it is started again."""
        name = f"worker-{len(self.workers)}"
        role = self._role(name, "worker", **({"METERING_INSTANCE": name} if named else {}))
        self.workers.append(role)
        return role

    def _role(self, name: str, command: str, **more: str) -> Role:
        environment = {
            **os.environ,
            "METERING_KAFKA_URL": self.broker.url,
            "METERING_CLICKHOUSE_URL": f"chdb://{self.home}/clickhouse",
            "METERING_SESSION_SECRET": SESSION_SECRET,
            "METERING_OPERATOR_TOKEN": OPERATOR_TOKEN,
            "METERING_COMMAND_KEY": COMMAND_KEY,
            "METERING_NOTARY_KEY": NOTARY_KEY,
            "METERING_WORKER_PORT": str(ports.free()),
            **more,
        }
        return Role(name, command, environment, self.home / f"{name}.log")

    def add_server(self) -> Role:
        """Add the server, not yet started."""
        port = ports.free()
        self.http_url = f"http://127.0.0.1:{port}"
        ours = {"METERING_PORT": str(port), "METERING_SERVER_STATUS_PORT": str(ports.free())}
        self.server = self._role("server", "server", METERING_INSTANCE="server", **ours)
        return self.server

    async def ready(self) -> None:
        """Return when every part answers. Raises AssertionError with the logs where it does not."""
        deadline = time.monotonic() + START_LIMIT_S
        said = "nothing yet"
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=5) as client:
            while time.monotonic() < deadline:
                self.revive()
                try:
                    answer = await client.get(f"{self.http_url}/healthz")
                    said = answer.text
                    if answer.status_code == httpx2.codes.OK:
                        return
                except httpx2.HTTPError as error:
                    said = repr(error)
                await asyncio.sleep(0.2)
        raise AssertionError(f"not ready: {said}\n{self.all_words()}")

    def revive(self) -> None:
        """Start what has ended, as a supervisor does."""
        for role in self.roles():
            if not role.running:
                role.start()

    def roles(self) -> list[Role]:
        """Return every process."""
        return [*self.workers, *([self.server] if self.server else [])]

    def process_ids(self) -> dict[str, int]:
        """Return the process of each role that runs."""
        return {role.name: role.process.pid for role in self.roles() if role.process and role.running}

    async def verify(self, *, full: bool = False) -> Report:
        """Compare everything, as `metering verify` does beside a server."""
        settings = Settings(kafka_url=self.broker.url)
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=300) as client:
            return await verify(settings, asking_server(client, self.http_url, OPERATOR_TOKEN), full=full)

    def all_words(self) -> str:
        """Return the last words of every process."""
        return "\n".join(f"--- {role.name}\n{role.words()}" for role in self.roles())

    def stop(self) -> None:
        """End every process."""
        for role in self.roles():
            role.signal(signal.SIGCONT)
            role.kill()


P = TypeVar("P", bound=Product)


@asynccontextmanager
async def product(broker: Broker, home: Path, *, workers: int, partitions: int = 4) -> AsyncIterator[Product]:
    """Run the product with some workers and a server; everything is ended at the end."""
    async with started(Product(broker, home), workers=workers, partitions=partitions) as running:
        yield running


@asynccontextmanager
async def started(running: P, *, workers: int, partitions: int) -> AsyncIterator[P]:
    """Start a deployment's workers and server; they are ended at the end."""
    broker = running.broker
    await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=partitions))
    try:
        for _ in range(workers):
            running.add_worker().start()
        running.add_server().start()
        await running.ready()
        yield running
    finally:
        running.stop()
