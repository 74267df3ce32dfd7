"""Write records that every server follows, such as those of sessions and access tokens.

Owns: that who wrote a record knows it, and all before it, when the writing returns.
Called by: the server makes one; `kafka/sessions.py` and `kafka/tokens.py` write through it.
"""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import producer
from pipeline.kafka.commands import UnavailableError
from pipeline.kafka.follow import TopicFollower

KNOWN_LIMIT_S = 5.0
REQUEST_MS_MAX = 5_000


class FollowedLog:
    """Appends to topics of one partition. It belongs to a follower that is subscribed to them."""

    def __init__(self, kafka: KafkaConnection, follower: TopicFollower) -> None:
        """Prepare; nothing is connected before `start`."""
        self._kafka, self._follower = kafka, follower
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect. Raises a KafkaError."""
        self._producer = producer(self._kafka, request_timeout_ms=REQUEST_MS_MAX)
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def append(self, topic: str, value: bytes, key: bytes | None = None) -> None:
        """Return once a record is durable, and the follower has taken it and all before it.

        Raises UnavailableError or TimeoutError where nobody knows whether it was written.
        """
        assert self._producer is not None
        try:
            next_offset = await append(self._producer, topic, value, key)
        except KafkaError as error:
            raise UnavailableError(f"{topic} cannot be written") from error
        await self._follower.reached(topic, next_offset, KNOWN_LIMIT_S)


async def append(writing: AIOKafkaProducer, topic: str, value: bytes, key: bytes | None = None) -> int:
    """Return the offset after a record, once it is durable. Raises a KafkaError."""
    written = await writing.send_and_wait(topic, value, key=key, partition=0)
    return int(written.offset) + 1
