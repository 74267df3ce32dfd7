"""Kafka clients while a broker hangs, as a frozen one does: its kernel takes connections, and nothing comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import BrokerMetadata

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_client, started_consumer

FOR_EVER_MS = 600_000
TIMES = 20
"""Brokers are tried in a random order: some of so many tries begin with the one that hangs."""
HANGS = 99


@contextmanager
def _hanging() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as frozen:
        yield frozen.getsockname()[1]


def _know(client: AIOKafkaClient, port: int) -> None:
    """Have a client know of one more broker, until it learns anew which there are."""
    client.cluster._brokers = {
        **client.cluster._brokers,
        HANGS: BrokerMetadata(HANGS, "127.0.0.1", port, None),
    }


async def test_a_broker_that_hangs_is_soon_passed_by_where_others_answer(kafka_servers: str) -> None:
    with _hanging() as port:
        servers = f"127.0.0.1:{port},{kafka_servers}"
        async with asyncio.timeout(120):
            for _ in range(8):
                async with started_client(KafkaConnection(servers), request_timeout_ms=FOR_EVER_MS) as client:
                    assert client.cluster.brokers()
                    assert client._request_timeout_ms == FOR_EVER_MS


async def test_who_leads_what_is_asked_of_another_broker_soon(kafka_servers: str) -> None:
    with _hanging() as port:
        async with started_client(KafkaConnection(kafka_servers), request_timeout_ms=FOR_EVER_MS) as client:
            async with asyncio.timeout(120):
                for _ in range(TIMES):
                    _know(client, port)
                    assert await client.force_metadata_update()
                    assert {broker.nodeId for broker in client.cluster.brokers()} != {HANGS}


async def test_who_connects_to_a_broker_that_hangs_gives_up_and_keeps_nobody_from_another(
    kafka_servers: str,
) -> None:
    with _hanging() as port:
        async with started_client(KafkaConnection(kafka_servers), request_timeout_ms=FOR_EVER_MS) as client:
            [there] = client.cluster.brokers()
            _know(client, port)
            async with asyncio.timeout(60):
                stuck, other = await asyncio.gather(client.ready(HANGS), client.ready(there.nodeId))
            assert (stuck, other) == (False, True)


async def test_a_log_whose_leader_did_not_answer_is_looked_for_elsewhere(kafka_servers: str) -> None:
    """The question ends before its request does, so the client itself would go on asking the broker that hangs."""
    place = TopicPartition("metering.never-made", 0)
    with _hanging() as port:
        async with started_consumer(KafkaConnection(kafka_servers), request_timeout_ms=3_000) as consumer:
            client = consumer._client
            await client.add_topic(place.topic)
            _know(client, port)
            asked = client._md_update_waiter
            client.cluster._partitions = {place.topic: {}}
            client.cluster.leader_for_partition = lambda _place: HANGS
            with pytest.raises(KafkaTimeoutError):
                await consumer.end_offsets([place])
            assert asked.done()
