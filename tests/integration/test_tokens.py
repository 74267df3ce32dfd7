"""Access tokens over several servers, on a real broker: what one makes or revokes, all know, and later ones too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pipeline import topics
from pipeline.api.http.sessions import InvalidSessionError
from pipeline.api.services.tokens import TokenRegister
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.follow import TopicFollower
from pipeline.kafka.followed_log import FollowedLog
from pipeline.kafka.tokens import revoke_tokens, to_tokens, token_writer
from pipeline.settings import CommonSettings
from pipeline.token_book import TokenBook

SECRET = "a secret of the tests, long enough to sign with"
LIMIT_S = 30.0
TOPIC = [topic for topic in topics.TOPICS if topic.name == topics.TOKENS]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def server(kafka: KafkaConnection) -> AsyncIterator[TokenRegister]:
    """What one server knows of tokens, connected as `api/server/main.py` does it."""
    book = TokenBook(SECRET, now_ms)
    async with AsyncExitStack() as stack:
        follower = TopicFollower(kafka, [to_tokens(book)])
        await follower.start()
        stack.push_async_callback(follower.stop)
        log = FollowedLog(kafka, follower)
        await log.start()
        stack.push_async_callback(log.stop)
        yield TokenRegister(SECRET, now_ms, book, token_writer(log))


def is_open(register: TokenRegister, text: str) -> bool:
    try:
        register.session(text)
    except InvalidSessionError:
        return False
    return True


async def eventually(register: TokenRegister, text: str, *, opens: bool) -> None:
    async with asyncio.timeout(LIMIT_S):
        while is_open(register, text) is not opens:
            await asyncio.sleep(0.01)


async def test_tokens_of_three_servers(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    await ensure_topics(kafka, CommonSettings(), TOPIC)
    org, other = f"org_{time.time_ns()}", f"other_{time.time_ns()}"
    async with server(kafka) as first, server(kafka) as second, server(kafka) as third:
        servers = (first, second, third)
        # One request that comes several times, at every server, makes one token.
        asked = [each.create(org, "books", 7, "request", "key") for each in servers for _ in range(4)]
        answers = {(record.id, text) for record, text in await asyncio.gather(*asked)}
        assert len(answers) == 1
        token_id, text = answers.pop()
        _, kept = await first.create(org, "kept", 7, "request", None)
        _, theirs = await second.create(other, "books", 7, "request", None)
        for each in servers:
            for made in (text, kept, theirs):
                await eventually(each, made, opens=True)
        # Revoked at one server it opens nothing there as soon as that has answered, and soon nowhere.
        await second.revoke(org, token_id)
        assert not is_open(second, text)
        for each in servers:
            await eventually(each, text, opens=False)
            assert is_open(each, kept)
        assert await revoke_tokens(kafka, SECRET, org, now_ms) == 1
        for each in servers:
            await eventually(each, kept, opens=False)
            assert is_open(each, theirs)
        # A server that starts now knows it all before it answers anybody.
        async with server(kafka) as fourth:
            assert [is_open(fourth, each) for each in (text, kept, theirs)] == [False, False, True]
