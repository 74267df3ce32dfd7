"""Sessions that are over, on Kafka: follow them, and write that one is.

Owns: where the records go, and that who wrote one knows it, and all before it, when the writing returns.
Called by: the server follows and writes; `cli/sessions.py` writes.
"""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import producer
from pipeline.kafka.commands import UnavailableError
from pipeline.kafka.follow import Subscription, TopicFollower
from pipeline.session_book import SessionBook, SessionRecord, decode_session, encode_session

KNOWN_LIMIT_S = 5.0
_REQUEST_MS_MAX = 5_000


def to_sessions(book: SessionBook) -> Subscription:
    """Return the subscription that keeps a book up to date."""
    return Subscription(topics.SESSIONS, put=lambda _key, value: book.take(decode_session(value)))


class SessionLog:
    """Writes records of sessions. It belongs to a follower that is subscribed by `to_sessions`."""

    def __init__(self, kafka: KafkaConnection, follower: TopicFollower) -> None:
        """Prepare; nothing is connected before `start`."""
        self._kafka, self._follower = kafka, follower
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect. Raises a KafkaError."""
        self._producer = producer(self._kafka, request_timeout_ms=_REQUEST_MS_MAX)
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def write(self, record: SessionRecord) -> None:
        """Return once a record is durable, and the follower has taken it and all before it.

        Raises UnavailableError or TimeoutError where nobody knows whether it was written.
        """
        assert self._producer is not None
        try:
            next_offset = await _send(self._producer, record)
        except KafkaError as error:
            raise UnavailableError(f"{topics.SESSIONS} cannot be written") from error
        await self._follower.reached(topics.SESSIONS, next_offset, KNOWN_LIMIT_S)


async def write_session(kafka: KafkaConnection, record: SessionRecord) -> None:
    """Write one record durably, for who follows nothing. Raises a KafkaError."""
    writing = producer(kafka, request_timeout_ms=_REQUEST_MS_MAX)
    await writing.start()
    try:
        await _send(writing, record)
    finally:
        await writing.stop()


async def _send(writing: AIOKafkaProducer, record: SessionRecord) -> int:
    """Return the offset after a record, once it is durable. Raises a KafkaError."""
    written = await writing.send_and_wait(topics.SESSIONS, encode_session(record), partition=0)
    return int(written.offset) + 1
