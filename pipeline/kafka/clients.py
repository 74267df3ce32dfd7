"""Make aiokafka's clients: the one place that turns a `KafkaConnection` into consumers, producers and admins.

Owns: what all our clients have in common: brokers, security, committed records only, no automatic commits, and
bounds for what is decompressed.
Called by: every door to Kafka, the gateway library's too. Next: `connection.py` for the security settings.

Nothing is connected before a client's `start`. Options are aiokafka's own and win over the defaults here.
Each function raises KafkaSettingsError where a certificate or key cannot be used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.connection import KafkaConnection
from pipeline.kafka import decompression

decompression.install()


def consumer(kafka: KafkaConnection, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """Return a consumer of topics, or of none: then it is told later what to read.

    It sees committed records only, commits no offsets by itself, and begins at the beginning.
    """
    return AIOKafkaConsumer(
        *topics,
        **{
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            **kafka.client_arguments(),
            **options,
        },
    )


def producer(kafka: KafkaConnection, **options: Any) -> AIOKafkaProducer:
    """Return a producer that is idempotent and waits for all in-sync replicas."""
    return AIOKafkaProducer(
        **{"enable_idempotence": True, "acks": "all", **kafka.client_arguments(), **options}
    )


@asynccontextmanager
async def started_admin(kafka: KafkaConnection, **options: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect an admin client for as long as the block runs. Raises a KafkaError where nobody answers."""
    admin = AIOKafkaAdminClient(**{**kafka.client_arguments(), **options})
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
