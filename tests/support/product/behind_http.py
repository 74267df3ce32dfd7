"""The product as real processes that reach ClickHouse over HTTP, in a process of its own.

Owns: the environment that points them there. Called by: tests/crash/test_clickhouse_misbehaves.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.local.broker import Broker
from tests.support.clickhouse.process import ClickHouse
from tests.support.product.processes import Product, Role, started

WRITE_S = int(os.environ.get("METERING_TEST_WRITE_SECONDS", "2"))
"""After how long the sink gives an insert up here: the product's own 60 s are long for a test."""


class Impatient(Role):
    """A role with a shorter limit for writes."""

    def start(self, crash_at: str | None = None) -> None:
        """Start it; nothing ends it but the test."""
        assert crash_at is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.product.impatient", self.command],
                env={**self.environment, "METERING_TEST_WRITE_SECONDS": str(WRITE_S)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )


@dataclass(kw_only=True)
class BehindHttp(Product):
    """A deployment around one broker and one ClickHouse."""

    clickhouse: ClickHouse

    def _role(self, name: str, command: str, **more: str) -> Role:
        role = super()._role(name, command, METERING_CLICKHOUSE_URL=self.clickhouse.url, **more)
        return Impatient(role.name, role.command, role.environment, role.log)


@asynccontextmanager
async def behind_http(broker: Broker, home: Path, *, partitions: int, seed: int) -> AsyncIterator[BehindHttp]:
    """Run a worker, a server and ClickHouse; everything is ended at the end."""
    clickhouse = ClickHouse(home / "clickhouse", seed)
    deployment = BehindHttp(broker, home, clickhouse=clickhouse)
    try:
        await asyncio.to_thread(clickhouse.start)
        async with started(deployment, workers=1, partitions=partitions) as running:
            yield running
    finally:
        clickhouse.kill()
