"""The whole product as a user has it: real processes, HTTP, and the command line.

Owns: what a test does to it: as a gateway, as a member, as an operator.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaProducer

from pipeline.api.http.sessions import Role, issue
from pipeline.local.broker import Broker
from pipeline.partitioning import partition_of
from tests.support.formatted import new_broker
from tests.support.product.processes import SESSION_SECRET, Product, product
from tests.support.product.processes import Role as Process

PARTITIONS = 4
CATALOG = Path(__file__).parents[3] / "deploy" / "catalog.yaml"


@dataclass
class Deployment:
    """A running product and a loop to talk to it with."""

    product: Product
    runner: asyncio.Runner

    def publish(self, *events: dict[str, Any], partition: int | None = None) -> None:
        """Publish events, each where its org belongs or all on one partition."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.product.servers) as producer:
                for event in events:
                    right = partition_of(event["subject"], PARTITIONS)
                    await producer.send_and_wait(
                        "metering.requests",
                        json.dumps(event).encode(),
                        partition=right if partition is None else partition,
                    )

        self.runner.run(send())

    def call(
        self, method: str, path: str, org: str | None, role: Role = "owner", **more: Any
    ) -> httpx2.Response:
        """Call the API as a member of an org."""
        headers = dict(more.pop("headers", {}))
        if org is not None:
            token = issue(SESSION_SECRET, org, role, "", int(time.time() * 1000))
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self.product.http_url}{path}"
        # No certificate is looked at, and to read all those of the machine takes longer than many an answer.
        return httpx2.request(method, url, headers=headers, timeout=20, trust_env=False, verify=False, **more)

    def get(self, path: str, org: str) -> Any:
        """Return an answer's JSON; it must be a 200."""
        answer = self.call("GET", path, org)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, role: Process, path: str = "/metrics") -> httpx2.Response:
        """Ask a role on its status port."""
        return httpx2.get(f"{role.status_url}{path}", timeout=20, trust_env=False, verify=False)

    def metering(self, *arguments: str, code: int = 0) -> Any:
        """Run a command as an operator with METERING_* set; return the JSON it prints."""
        assert self.product.server is not None
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            env=self.product.server.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.product.all_words()}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def until(self, holds: Callable[[], bool], limit_s: float = 20) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline, self.product.all_words()
            time.sleep(0.1)


@contextmanager
def deployed_at(
    home: Path, before: Callable[[Broker], Coroutine[Any, Any, None]] | None = None
) -> Iterator[Deployment]:
    """Run a broker, a worker and a server with the shipped catalog; `before` sees the broker alone first."""
    with asyncio.Runner() as runner:
        broker = new_broker(home / "kafka")
        runner.run(broker.start())
        if before is not None:
            runner.run(before(broker))
        running = product(broker, home, workers=1, partitions=PARTITIONS)
        try:
            deployment = Deployment(runner.run(running.__aenter__()), runner)
            deployment.metering("catalog", "apply", str(CATALOG))
            yield deployment
        finally:
            runner.run(running.__aexit__(None, None, None))
            runner.run(broker.stop())
