"""Gateways under traffic, through the gateway library as users of their own, and what their events have to come to.

Called by: tests/cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pipeline.gateway import Gateway
from tests.support.product.traffic import Traffic
from tests.support.secured.cluster import SecuredCluster


class GatewayTraffic(Traffic):
    """Some gateways that publish events of random orgs; `truth` is what was stored durably, so what must be charged."""

    def __init__(
        self, cluster: SecuredCluster, home: Path, partitions: int, orgs: list[str], *, nodes: int, seed: int
    ) -> None:
        """Prepare; `start` connects."""
        super().__init__(cluster.servers, partitions, orgs, seed)
        self.gateways = [
            Gateway(
                kafka_url=cluster.url,
                kafka_security=cluster.security("gateway"),
                node=f"node-{number}",
                spool_dir=home / f"spool-{number}",
                durability="process",
            )
            for number in range(nodes)
        ]

    async def start(self) -> None:
        """Start the gateways."""
        for gateway in self.gateways:
            await gateway.__aenter__()

    async def stop(self) -> None:
        """Stop the gateways, once all is sent or after their own limit."""
        for gateway in self.gateways:
            await gateway.__aexit__(None, None, None)

    async def publish(self, events: int) -> None:
        """Publish so many events."""
        for _ in range(events):
            gateway = self._random.choice(self.gateways)
            event = self._event("gateway/unnumbered", self._random.choice(self._orgs))
            del event["id"], event["source"]
            event["id"] = await gateway.publish(event)
            event["source"] = gateway.source
            self._count(event)

    async def flow(self, events_per_s: float, ending: asyncio.Event) -> None:
        """Publish at a rate until told to end. Cancelled, it may leave an event in a spool that `truth` has not."""
        while not ending.is_set():
            await self.publish(max(1, int(events_per_s / 10)))
            await asyncio.sleep(0.1)

    def waiting(self) -> int:
        """Return how many events wait in the spools."""
        return sum(gateway.status().waiting_events for gateway in self.gateways)

    def problems(self) -> Sequence[str]:
        """Return what keeps gateways from sending or following."""
        return [problem for gateway in self.gateways for problem in gateway.status().problems]
