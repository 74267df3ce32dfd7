"""The product with every role and ClickHouse in a process of its own, as a deployment has them.

Called by: tests/world. So the operator's commands reach everything by settings, as they do there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.clickhouse.process import ClickHouse
from tests.support.product.processes import Product, Role


@dataclass(kw_only=True)
class Apart(Product):
    """A deployment around one broker and one ClickHouse, whose sink runs apart from the server."""

    clickhouse: ClickHouse
    sink: Role | None = None

    def _role(self, name: str, command: str, **more: str) -> Role:
        return super()._role(name, command, METERING_CLICKHOUSE_URL=self.clickhouse.url, **more)

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
        self.clickhouse.kill()
