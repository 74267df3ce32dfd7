"""The product with every role and ClickHouse in a process of its own, as a deployment has them.

Called by: tests/world. So the operator's commands reach everything by settings, as they do there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.clickhouse.process import ClickHouse
from tests.support.product.processes import Product, Role


@dataclass(kw_only=True)
class Apart(Product):
    """A deployment around one broker and one ClickHouse, whose sink runs apart from the server."""

    clickhouse: ClickHouse
    more_shards: Sequence[ClickHouse] = ()
    sink: Role | None = None

    @property
    def clickhouse_url(self) -> str:
        """What METERING_CLICKHOUSE_URL is."""
        hosts = ";".join(f"127.0.0.1:{each.port}" for each in (self.clickhouse, *self.more_shards))
        return self.clickhouse.url.replace(f"127.0.0.1:{self.clickhouse.port}", hosts)

    def _role(self, name: str, command: str, **more: str) -> Role:
        return super()._role(name, command, METERING_CLICKHOUSE_URL=self.clickhouse_url, **more)

    def add_server(self) -> Role:
        """Add the server and the sink, not yet started."""
        self.sink = self._role("sink", "sink", METERING_INSTANCE="sink")
        server = super().add_server()
        server.environment["METERING_SERVER_SINK"] = "false"
        return server

    def roles(self) -> list[Role]:
        """Return every process but ClickHouse."""
        return [*super().roles(), *([self.sink] if self.sink else [])]

    def stop(self) -> None:
        """End every process."""
        super().stop()
        for each in (self.clickhouse, *self.more_shards):
            each.kill()
