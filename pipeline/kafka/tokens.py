"""Access tokens on Kafka: follow their records, write them, and revoke those of an org.

Owns: where the records go, and the word on one that is not signed.
Called by: the server follows and writes; `cli/sessions.py` revokes. Next: `token_book.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from pipeline import topics
from pipeline.connection import KafkaConnection
from pipeline.kafka.follow import Subscription, TopicFollower
from pipeline.kafka.followed_log import FollowedLog
from pipeline.token_book import TokenBook, TokenRecord, decode_token, encode_token, ended

log = logging.getLogger(__name__)


def to_tokens(book: TokenBook) -> Subscription:
    """Return the subscription that keeps a book up to date.

    A record that is not signed with the session secret opens nothing. The first one of a process is logged: after the
    secret has changed all older ones are such records.
    """
    warned = False

    def put(_key: bytes, value: bytes) -> None:
        nonlocal warned
        record = decode_token(value)
        if not book.take(record) and not warned:
            warned = True
            log.warning(
                "%s: %s of %s is not signed with this session secret, so it opens nothing; others may follow",
                topics.TOKENS,
                record.id,
                record.org,
            )

    return Subscription(topics.TOKENS, put, book.forget)


def token_writer(followed: FollowedLog) -> Callable[[TokenRecord], Awaitable[None]]:
    """Return what writes records of tokens through a log, and raises what its `append` raises."""

    async def write(record: TokenRecord) -> None:
        await followed.append(topics.TOKENS, encode_token(record), record.topic_key)

    return write


async def revoke_tokens(kafka: KafkaConnection, secret: str, org: str, now_ms: Callable[[], int]) -> int:
    """Revoke all tokens of an org that are in force, durably; return how many there were.

    Raises what connecting raises, UnavailableError, or TimeoutError.
    """
    book = TokenBook(secret, now_ms)
    async with AsyncExitStack() as stack:
        follower = TopicFollower(kafka, [to_tokens(book)])
        await follower.start()
        stack.push_async_callback(follower.stop)
        followed = FollowedLog(kafka, follower)
        stack.push_async_callback(followed.stop)
        await followed.start()
        write, found = token_writer(followed), book.in_force_of(org)
        for record in found:
            await write(ended(record, max(now_ms(), record.created_ms + 1), secret))
    return len(found)
