"""Sessions over several servers, on a real broker: one of many exchanges wins, and what is over is over everywhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pipeline import topics
from pipeline.api.http.sessions import InvalidSessionError, issue
from pipeline.api.services.sessions import SessionRegister
from pipeline.connection import KafkaConnection
from pipeline.kafka.admin import ensure_topics
from pipeline.kafka.follow import TopicFollower
from pipeline.kafka.followed_log import FollowedLog
from pipeline.kafka.sessions import session_writer, to_sessions, write_session
from pipeline.session_book import SessionBook, ended_org
from pipeline.settings import CommonSettings

SECRET = "a secret of the tests, long enough to sign with"
LIMIT_S = 30.0
TOPIC = [topic for topic in topics.TOPICS if topic.name == topics.SESSIONS]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def server(kafka: KafkaConnection) -> AsyncIterator[SessionRegister]:
    """What one server knows of sessions, connected as `api/server/main.py` does it."""
    book = SessionBook(now_ms)
    async with AsyncExitStack() as stack:
        follower = TopicFollower(kafka, [to_sessions(book)])
        await follower.start()
        stack.push_async_callback(follower.stop)
        log = FollowedLog(kafka, follower)
        await log.start()
        stack.push_async_callback(log.stop)
        yield SessionRegister(SECRET, now_ms, book, session_writer(log))


def is_good(register: SessionRegister, token: str) -> bool:
    try:
        register.session(token)
    except InvalidSessionError:
        return False
    return True


async def eventually_over(register: SessionRegister, token: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while is_good(register, token):
            await asyncio.sleep(0.01)


async def exchanged(register: SessionRegister, token: str) -> str | None:
    try:
        return await register.exchange(register.session(token))
    except InvalidSessionError:
        return None


async def test_sessions_of_three_servers(kafka_servers: str) -> None:
    kafka = KafkaConnection(kafka_servers)
    await ensure_topics(kafka, CommonSettings(), TOPIC)
    org = f"org_{time.time_ns()}"
    async with server(kafka) as first, server(kafka) as second, server(kafka) as third:
        # Of many that exchange one link at the same time, at any server, exactly one comes in.
        for _ in range(5):
            link = issue(SECRET, org, "owner", "", now_ms())
            tries = [exchanged(each, link) for each in (first, second, third) for _ in range(8)]
            won = [token for token in await asyncio.gather(*tries) if token is not None]
            assert len(won) == 1
            for each in (first, second, third):
                await eventually_over(each, link)
                assert is_good(each, won[0])
        # Who signs out at one server is signed out at all, and at that one as soon as it has answered.
        token, other = (issue(SECRET, org, "owner", "", now_ms()) for _ in range(2))
        await first.end(first.session(token))
        assert not is_good(first, token)
        await eventually_over(second, token)
        # An operator ends what an org has, exchanged sessions too, and nobody else's; who signs in later is in.
        link, theirs = (
            issue(SECRET, org, "owner", "", now_ms()),
            issue(SECRET, "org_else", "owner", "", now_ms()),
        )
        inside = await second.exchange(second.session(link))
        await write_session(kafka, ended_org(org, now_ms() + 1))
        for each in (first, second, third):
            await eventually_over(each, other)
            await eventually_over(each, inside)
            assert is_good(each, theirs)
            assert is_good(each, issue(SECRET, org, "owner", "", now_ms() + 2))
        # A server that starts now knows it all before it answers anybody.
        async with server(kafka) as fourth:
            for over in (link, token, other, inside):
                with pytest.raises(InvalidSessionError, match="was ended"):
                    fourth.session(over)
            assert is_good(fourth, theirs)
