"""Sessions that are over, on Kafka: follow them, and write that one is.

Owns: where the records go.
Called by: the server follows and writes; `cli/sessions.py` writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.clients import started_producer
from pipeline.kafka.follow import Subscription
from pipeline.kafka.followed_log import REQUEST_MS_MAX, FollowedLog, append
from pipeline.session_book import SessionBook, SessionRecord, decode_session, encode_session


def to_sessions(book: SessionBook) -> Subscription:
    """Return the subscription that keeps a book up to date."""
    return Subscription(topics.SESSIONS, put=lambda _key, value: book.take(decode_session(value)))


def session_writer(log: FollowedLog) -> Callable[[SessionRecord], Awaitable[None]]:
    """Return what writes records of sessions through a log, and raises what its `append` raises."""

    async def write(record: SessionRecord) -> None:
        await log.append(topics.SESSIONS, encode_session(record))

    return write


async def write_session(kafka: KafkaConnection, record: SessionRecord) -> None:
    """Write one record durably, for who follows nothing. Raises a KafkaError."""
    async with started_producer(kafka, request_timeout_ms=REQUEST_MS_MAX) as writing:
        await append(writing, topics.SESSIONS, encode_session(record))
