"""Processes under measurement: the product's roles and the peers, with what they cost.

Owns: starting and ending them, and their CPU seconds and memory as the kernel counts them.
Called by: the benchmarks.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2

from bench.events import rates
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.catalog import publish_rates
from pipeline.local.broker import Broker
from pipeline.local.ports import free
from pipeline.settings import Settings

DEPLOYMENT = "metering"
SESSION_SECRET = "session-secret-of-the-benchmarks-0123456789"
COMMAND_KEY = "command-key-of-the-benchmarks-0123456789"
SYNCED = "METERING_BENCH_SYNCED"
"""Where it is set, the broker has each append on disk before it acknowledges it, as under `metering up`; otherwise it stands
for brokers of a cluster, which leave that to their replicas."""
START_LIMIT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A process of ours, its words in a file."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        """Start a command."""
        self.log = log
        with log.open("ab") as words:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdout=words,
                stderr=words,
                stdin=subprocess.DEVNULL,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise RuntimeError with its last words where it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended: {self._process.returncode}\n{self.log.read_text()[-3000:]}")

    @property
    def cpu_s(self) -> float:
        """CPU seconds it has used, all threads, user and system."""
        return cpu_s_of(self.pid)

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def stop(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def cpu_s_of(pid: int) -> float:
    """Return the CPU seconds a process has used, in steps of a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Bench:
    """A broker with the topics on it, and the roles started beside it."""

    def __init__(self, broker: Broker, home: Path, partitions: int) -> None:
        """Use a broker that runs."""
        self.broker, self.home, self.partitions = broker, home, partitions
        self.started: list[Process] = []
        self.http_url = self.status_url = ""

    @property
    def servers(self) -> str:
        """host:port of the broker."""
        return self.broker.servers

    def stop_all(self) -> None:
        """End what was started on the broker so far."""
        for process in self.started:
            process.stop()

    @property
    def connection(self) -> KafkaConnection:
        """How this project's own clients reach the broker."""
        return self.broker.connection

    def worker(self) -> Process:
        """Start a worker, with the settings it has everywhere."""
        return self._start("worker", ["-m", "pipeline", "worker"])

    def server(self) -> Process:
        """Start the server with the sink and the embedded ClickHouse in it."""
        port = free("127.0.0.1")
        self.http_url = f"http://127.0.0.1:{port}"
        status_port = free("127.0.0.1")
        self.status_url = f"http://127.0.0.1:{status_port}"
        ours = {"METERING_PORT": str(port), "METERING_SERVER_STATUS_PORT": str(status_port)}
        return self._start("server", ["-m", "pipeline", "server"], **ours)

    async def ready(self, server: Process) -> None:
        """Return when a server and all that it needs is ready. Raises RuntimeError where it is not in time."""
        deadline = time.monotonic() + START_LIMIT_S
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                server.check()
                with suppress(httpx2.HTTPError):
                    if (await client.get(f"{self.http_url}/healthz")).status_code == httpx2.codes.OK:
                        return
                if time.monotonic() > deadline:
                    raise RuntimeError(server.log.read_text()[-3000:])
                await asyncio.sleep(0.2)

    def program(self, name: str, *arguments: str) -> Process:
        """Start another program of the benchmarks."""
        return self._start(name, ["-m", f"bench.{name}", *arguments])

    def other(self, name: str, command: Sequence[str]) -> Process:
        """Start a program that is not Python."""
        return self._begin(name, command, {})

    def _start(self, name: str, arguments: list[str], **more: str) -> Process:
        environment = {
            "METERING_KAFKA_URL": self.broker.url,
            "METERING_CLICKHOUSE_URL": f"chdb://{self.home}/clickhouse",
            "METERING_SESSION_SECRET": SESSION_SECRET,
            "METERING_COMMAND_KEY": COMMAND_KEY,
            "METERING_PARTITIONS": str(self.partitions),
            "METERING_WORKER_PORT": str(free("127.0.0.1")),
            **more,
        }
        return self._begin(name, [sys.executable, *arguments], environment)

    def _begin(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Process:
        process = Process(command, self.home / f"{name}.log", environment)
        self.started.append(process)
        return process


@asynccontextmanager
async def bench(partitions: int) -> AsyncIterator[Bench]:
    """Run a fresh embedded broker with all topics and rates; everything is ended and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="metering-bench-"))
    broker = Broker(home / "kafka", 0, is_synced=SYNCED in os.environ)
    running = Bench(broker, home, partitions)
    try:
        await broker.start()
        await ensure_topics(broker.connection, Settings(kafka_url=broker.url, partitions=partitions))
        await publish_rates(broker.connection, DEPLOYMENT, lambda *_: rates())
        yield running
    finally:
        await asyncio.to_thread(running.stop_all)
        await broker.stop()
        shutil.rmtree(home, ignore_errors=True)
