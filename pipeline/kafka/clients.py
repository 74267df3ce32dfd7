"""Make aiokafka's clients: the one place that turns a `KafkaConnection` into consumers, producers and admins.

Owns: what all our clients have in common: brokers, security, committed records only, no automatic commits, and
bounds for what is decompressed.
Called by: every door to Kafka, the gateway library's too. Next: `connection.py` for the security settings, `kafka/hanging.py`.

Nothing is connected before a client's `start`. Options are aiokafka's own and win over the defaults here.
Each function raises KafkaSettingsError where a certificate or key cannot be used. A client that finds no broker at its
start raises KafkaRefusedError, which says what to set, or KafkaAwayError (`kafka/refused.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError

from pipeline.connection import KafkaConnection
from pipeline.kafka import decompression
from pipeline.kafka.hanging import ask_leaders_after_silence, pass_by_hanging_brokers

decompression.install()

REQUEST_MS_MAX = 15_000
"""How long a consumer waits for an answer. A broker that hangs is given up by its cluster after 9 s, but clients learn of the
new leaders only when they ask again: with aiokafka's own 40 s nothing would be read for so long."""


def consumer(kafka: KafkaConnection, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """Return a consumer of topics, or of none: then it is told later what to read.

    It sees committed records only, commits no offsets by itself, and begins at the beginning.
    """
    arguments = {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "request_timeout_ms": REQUEST_MS_MAX,
        **kafka.client_arguments(),
        **options,
    }
    made = AIOKafkaConsumer(*topics, **arguments)
    _mend(made._client, arguments)  # noqa: SLF001 - aiokafka has no other way in
    ask_leaders_after_silence(made)
    return made


def check_rights(consumer: AIOKafkaConsumer, wanted: AbstractSet[str]) -> None:
    """Raise TopicAuthorizationFailedError where brokers have said that a consumer may not know of a topic."""
    refused = wanted & consumer._client.cluster.unauthorized_topics  # noqa: SLF001 - aiokafka has no other way in
    if refused:
        raise TopicAuthorizationFailedError(refused)


def producer(kafka: KafkaConnection, **options: Any) -> AIOKafkaProducer:
    """Return a producer that is idempotent and waits for all in-sync replicas."""
    arguments = {"enable_idempotence": True, "acks": "all", **kafka.client_arguments(), **options}
    made = AIOKafkaProducer(**arguments)
    _mend(made.client, arguments)
    return made


@asynccontextmanager
async def started_producer(kafka: KafkaConnection, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Connect a producer for as long as the block runs. Raises a KafkaError where nobody answers, with nothing left open."""
    writing = producer(kafka, **options)
    try:
        await writing.start()
        yield writing
    finally:
        await writing.stop()


@asynccontextmanager
async def started_client(kafka: KafkaConnection, **options: Any) -> AsyncIterator[AIOKafkaClient]:
    """Connect a bare client, for requests of our own, for as long as the block runs. Raises a KafkaError."""
    arguments = {**kafka.client_arguments(), **options}
    client = AIOKafkaClient(**arguments)
    _mend(client, arguments)
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def started_admin(kafka: KafkaConnection, **options: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect an admin client for as long as the block runs. Raises a KafkaError where nobody answers."""
    arguments = {**kafka.client_arguments(), **options}
    admin = AIOKafkaAdminClient(**arguments)
    _mend(admin._client, arguments)  # noqa: SLF001 - aiokafka has no other way in
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def started_consumer(kafka: KafkaConnection, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Connect a consumer of no topic for as long as the block runs. Raises a KafkaError where nobody answers."""
    reading = consumer(kafka, **options)
    try:
        await reading.start()
        yield reading
    finally:
        await reading.stop()


def _mend(client: AIOKafkaClient, arguments: Mapping[str, Any]) -> None:
    """Have a client begin and end as ours have to, where a broker hangs or takes its time."""
    pass_by_hanging_brokers(client, arguments)
    _end_at_once(client)


def _end_at_once(client: AIOKafkaClient) -> None:
    """Have a client close its connections without waiting for brokers to take leave of it.

    TLS has both ends say that nothing more comes (RFC 8446, 6.1). A broker that still owes the answer to a fetch may never, and
    uvloop waits 30 s for it. Whatever has to arrive was answered before a client is closed, and every answer has its length.
    """
    close = client.close

    async def close_at_once() -> None:
        for connection in client._conns.values():  # noqa: SLF001 - aiokafka has no other way in
            if connection.connected():
                connection._writer.transport.abort()  # noqa: SLF001
        await close()

    client.close = close_at_once
