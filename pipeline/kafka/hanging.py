"""Have aiokafka's clients pass by a broker that hangs: its kernel takes connections and requests, and nothing comes back.

Owns: how long one of several brokers may keep a client that could ask another one.
Called by: `kafka/clients.py`, of every client. Next: `kafka/refused.py` says why nobody answers.

A cluster gives a silent broker up after some seconds, and others lead then. But aiokafka learns of it only by asking, and asks
brokers in a random order, each for a whole request; and whoever connects to one keeps the others from connecting to any. So a
client could stay with a broker that was given up for as long as it hung. Where a deployment has a single broker, nothing here
changes anything: there is nobody else to ask.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from pipeline.kafka.refused import why_unreached

FIRST_TRY_MS = 2_000
"""How long each of several brokers has, at first, to take a client that begins, or to say which broker leads what. An opening
partition begins several clients: each that tried the hanging one first would wait a whole request for nothing."""
TRIES = 4
"""So often somebody is asked who leads what before one may take its time. Of three brokers, the one that hangs is the first to be
asked each time in one of 81 cases."""
CONNECT_S = 5.0
"""How long connecting to one of several brokers may take."""


def pass_by_hanging_brokers(client: AIOKafkaClient, arguments: Mapping[str, Any]) -> None:
    """Mend a client that is not started yet: how it begins, connects, and asks who leads what."""
    _begin_well(client, arguments)
    _ask_another_soon(client)
    _connect_soon(client)


def ask_leaders_after_silence(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer ask who leads what after it got no answer about a log's ends: whoever led may have been given up.

    Its own way to learn that is a request that times out, and the whole question has ended by then.
    """

    def mended(ask: Any) -> Any:
        async def asked(partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
            try:
                found: dict[TopicPartition, int] = await ask(partitions)
            except KafkaTimeoutError:
                consumer._client.force_metadata_update()  # noqa: SLF001 - aiokafka has no other way in
                raise
            return found

        return asked

    consumer.end_offsets = mended(consumer.end_offsets)
    consumer.beginning_offsets = mended(consumer.beginning_offsets)


def _begin_well(client: AIOKafkaClient, arguments: Mapping[str, Any]) -> None:
    """Have a client begin with another broker soon, where there are any, and say why where it finds none.

    Its own error names the brokers and nothing else.
    """
    bootstrap = client.bootstrap

    async def bootstrap_or_say_why() -> None:
        whole_ms = client._request_timeout_ms  # noqa: SLF001 - aiokafka has no other way in
        tries_ms = [whole_ms]
        if len(collect_hosts(arguments["bootstrap_servers"])) > 1 and whole_ms > FIRST_TRY_MS:
            tries_ms.insert(0, FIRST_TRY_MS)
        try:
            for try_ms in tries_ms:
                client._request_timeout_ms = try_ms  # noqa: SLF001
                with suppress(KafkaConnectionError):
                    await bootstrap()
                    return
        finally:
            client._request_timeout_ms = whole_ms  # noqa: SLF001
        raise await why_unreached(arguments)

    client.bootstrap = bootstrap_or_say_why


def _ask_another_soon(client: AIOKafkaClient) -> None:
    """Have who leads what asked of another broker soon. Each try of the client's own begins with whichever it draws."""
    update = client._metadata_update  # noqa: SLF001 - aiokafka has no other way in

    async def updated(metadata: ClusterMetadata, topics: set[str] | None) -> bool:
        for _ in range(TRIES if _has_several(client) else 0):
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_TRY_MS / 1000):
                    return bool(await update(metadata, topics))
        return bool(await update(metadata, topics))

    client._metadata_update = updated  # noqa: SLF001


def _connect_soon(client: AIOKafkaClient) -> None:
    """Have a connection that is not there soon given up, as one that is refused is, and nobody wait for another broker's.

    The client connects to one broker at a time; here that is so of each broker and group of connections.
    """
    connect = client._get_conn  # noqa: SLF001 - aiokafka has no other way in
    turns: defaultdict[tuple[int | str, ConnectionGroup], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def connected(
        node: int | str, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> AIOKafkaConnection | None:
        known = client._conns.get((node, group))  # noqa: SLF001
        if known is not None and known.connected():
            return known
        try:
            async with asyncio.timeout(CONNECT_S if _has_several(client) else None), turns[node, group]:
                return await connect(node, group=group, no_hint=no_hint)
        except TimeoutError:
            client.force_metadata_update()
            return None

    client._get_conn = connected  # noqa: SLF001
    client._get_conn_lock_value = nullcontext()  # noqa: SLF001


def _has_several(client: AIOKafkaClient) -> bool:
    return len(client.cluster.brokers()) > 1
