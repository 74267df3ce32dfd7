"""Access tokens on Kafka: follow their records, and write them.

Owns: where the records go, and the word on one that is not signed.
Called by: the server. Next: `token_book.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pipeline import topics
from pipeline.kafka.follow import Subscription
from pipeline.kafka.followed_log import FollowedLog
from pipeline.token_book import TokenBook, TokenRecord, decode_token, encode_token

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
