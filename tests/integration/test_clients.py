"""Kafka clients that begin while a broker hangs."""

from __future__ import annotations

import asyncio
import socket

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_client


async def test_a_broker_that_hangs_is_soon_passed_by_where_others_answer(kafka_servers: str) -> None:
    """As a frozen one does: its kernel takes connections, and nothing comes back."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        servers = f"127.0.0.1:{frozen.getsockname()[1]},{kafka_servers}"
        # Brokers are tried in a random order: some of these begin with the one that hangs.
        async with asyncio.timeout(120):
            for _ in range(8):
                async with started_client(KafkaConnection(servers), request_timeout_ms=600_000) as client:
                    assert client.cluster.brokers()
                    assert client._request_timeout_ms == 600_000
