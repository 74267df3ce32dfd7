"""A product under a real Prometheus with the deployment's rules in a hurry, and somebody who follows the runbooks.

Owns: what a walk has beside alerts and commands: the product, its load, its ClickHouse.
Called by: tests/runbooks. Next: tests/support/runbooks/paged.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx2

from tests.support.product.apart import Apart
from tests.support.product.processes import Role
from tests.support.product.razorpay import PARTITIONS
from tests.support.product.world import World
from tests.support.runbooks.load import Load
from tests.support.runbooks.paged import Paged


@dataclass(kw_only=True)
class Walk(Paged):
    """Everything that a walk through a runbook takes."""

    world: World
    load: Load

    @property
    def product(self) -> Apart:
        """The roles, each a process."""
        return self.world.product

    def seen(self, targets: int) -> None:
        """Wait until every target has been scraped for some seconds, so that what ends then is missed."""
        steady = (
            f"min_over_time(sum(up)[10s:2s]) == {targets} and metering_worker_partitions:sum == {PARTITIONS}"
        )
        self.until(lambda: bool(self.prometheus.instant(steady, time.time())), "every target is scraped")

    def statement(self, sql: str) -> None:
        """Have ClickHouse run what returns nothing, past the product."""
        url = self.product.clickhouse.url
        answer = httpx2.post(url, content=sql, trust_env=False, verify=False, timeout=60)
        assert answer.status_code == httpx2.codes.OK, answer.text

    def start(self, *roles: Role) -> None:
        """Start roles again, as whoever supervises them does, and wait until every part is ready."""
        for role in roles:
            role.start()
        self.world.ready()
