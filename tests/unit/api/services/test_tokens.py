"""Making and revoking access tokens, at one server and at two that learn of each other's late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pipeline.api.http.errors import ApiError
from pipeline.api.http.sessions import InvalidSessionError
from pipeline.api.services.tokens import TOKENS_MAX, TokenRegister
from pipeline.ist import DAY_MS
from pipeline.kafka.commands import UnavailableError
from pipeline.outcomes import RefusalCode
from pipeline.token_book import TokenBook, TokenRecord, decode_token, encode_token

SECRET = "a secret of the tests, long enough to sign with"
NOW_MS = 1_781_288_999_123
ORG = "org_acme"


@dataclass
class Topic:
    """The records of the topic, and servers that have read some of them."""

    clock: list[int] = field(default_factory=lambda: [NOW_MS])
    values: list[bytes] = field(default_factory=list)
    is_away: bool = False

    def server(self) -> TokenRegister:
        """Return what a server that starts now knows. It reads on when it writes."""
        book = TokenBook(SECRET, lambda: self.clock[0])
        read = 0

        def take() -> None:
            nonlocal read
            for value in self.values[read:]:
                book.take(decode_token(value))
            read = len(self.values)

        async def write(record: TokenRecord) -> None:
            if self.is_away:
                raise UnavailableError("no broker")
            self.values.append(encode_token(record))
            # Others come first before it is known that this was written.
            await asyncio.sleep(0)
            take()

        take()
        return TokenRegister(SECRET, lambda: self.clock[0], book, write)


async def made(
    server: TokenRegister, name: str = "ci", days: int = 90, request: str = "r", key: str | None = None
) -> tuple[str, str]:
    record, text = await server.create(ORG, name, days, request, key)
    return record.id, text


def names(server: TokenRegister) -> list[tuple[str, bool]]:
    return [(record.name, record.revoked_ms > 0) for record in server.of_org(ORG)]


def is_open(server: TokenRegister, text: str) -> bool:
    try:
        server.session(text)
    except InvalidSessionError:
        return False
    return True


async def refusal(creating: Callable[[], object]) -> RefusalCode:
    with pytest.raises(ApiError) as refused:
        await creating()  # type: ignore[misc]
    return refused.value.code


async def test_a_token_opens_its_org_as_a_member_until_its_time_is_over() -> None:
    topic = Topic()
    server = topic.server()
    token_id, text = await made(server, days=2)
    for each in (server, topic.server()):
        session = each.session(text)
        assert (session.org, session.role, session.email, session.session_id) == (ORG, "member", "", token_id)
    assert text.encode() not in b"".join(topic.values)
    topic.clock[0] += 2 * DAY_MS - 1
    assert is_open(server, text)
    topic.clock[0] += 1
    assert not is_open(server, text)
    for other in ("brt-", text[:-1], text + "A", text.upper()):
        assert not is_open(server, other)


async def test_a_revoked_token_opens_nothing_and_stays_revoked() -> None:
    topic = Topic()
    server = topic.server()
    token_id, text = await made(server)
    first = await server.revoke(ORG, token_id)
    topic.clock[0] += 5
    assert await server.revoke(ORG, token_id) == first and len(topic.values) == 2
    for each in (server, topic.server()):
        assert not is_open(each, text) and names(each) == [("ci", True)]
    for org, other in ((ORG, "tok_none"), ("org_else", token_id)):
        with pytest.raises(ApiError) as refused:
            await server.revoke(org, other)
        assert refused.value.code is RefusalCode.NOT_FOUND


async def test_the_same_request_is_answered_the_same_token_and_another_is_refused() -> None:
    topic = Topic()
    first = await made(topic.server(), key="k-1")
    again = topic.server()
    assert await made(again, key="k-1") == first and len(topic.values) == 1
    assert is_open(again, first[1])
    assert await refusal(lambda: made(again, request="another", key="k-1")) is RefusalCode.INVALID_REQUEST
    other = await made(again, name="other", key="k-2")
    assert len({*first, *other}) == 4
    # Whatever became of it since: what is repeated has no second effect.
    await again.revoke(ORG, first[0])
    assert await made(again, key="k-1") == first and not is_open(again, first[1])


async def test_two_servers_that_are_asked_the_same_at_once_make_one_token() -> None:
    topic = Topic()
    one, other = topic.server(), topic.server()
    answers = await asyncio.gather(made(one, key="k"), made(other, key="k"), made(one, key="k"))
    assert len(set(answers)) == 1
    for each in (one, other, topic.server()):
        assert is_open(each, answers[0][1]) and names(each) == [("ci", False)]


async def test_two_servers_keep_the_rules_together() -> None:
    topic = Topic()
    one, other = topic.server(), topic.server()
    answers = await asyncio.gather(made(one), made(other), return_exceptions=True)
    refused = [each for each in answers if isinstance(each, ApiError)]
    assert [each.code for each in refused] == [RefusalCode.DUPLICATE_TOKEN_NAME]
    await one.create(ORG, "third", 1, "r", None)
    assert names(one) == names(topic.server()) == [("ci", False), ("third", False)]


async def test_who_came_too_late_is_refused_when_it_asks_again_with_its_key() -> None:
    topic = Topic()
    one, other = topic.server(), topic.server()
    answers = await asyncio.gather(made(one, key="a"), made(other, key="b"), return_exceptions=True)
    assert isinstance(answers[1], ApiError) and not isinstance(answers[0], BaseException)
    assert await refusal(lambda: made(topic.server(), key="b")) is RefusalCode.INVALID_REQUEST
    assert is_open(topic.server(), answers[0][1])


async def test_an_org_has_so_many_and_makes_so_many_in_a_day() -> None:
    topic = Topic()
    server = topic.server()
    ids = [(await made(server, f"n{number}", 300))[0] for number in range(TOKENS_MAX)]
    assert await refusal(lambda: made(server, "more")) is RefusalCode.TOKEN_LIMIT_REACHED
    await server.create("org_else", "theirs", 1, "r", None)
    await server.revoke(ORG, ids[0])
    with pytest.raises(ApiError) as refused:
        await made(server, "more")
    assert refused.value.code is RefusalCode.RATE_LIMIT_EXCEEDED
    assert refused.value.headers == {"Retry-After": str(DAY_MS // 1000)}
    topic.clock[0] += DAY_MS
    await made(server, "more")
    assert await refusal(lambda: made(server, "and more")) is RefusalCode.TOKEN_LIMIT_REACHED


async def test_a_name_is_free_again_once_its_token_is_over() -> None:
    topic = Topic()
    server = topic.server()
    token_id, _ = await made(server)
    assert await refusal(lambda: made(server)) is RefusalCode.DUPLICATE_TOKEN_NAME
    await server.revoke(ORG, token_id)
    await made(server, days=1)
    topic.clock[0] += DAY_MS
    await made(server)
    assert names(server) == [("ci", True), ("ci", False), ("ci", False)]


async def test_where_it_cannot_be_written_nothing_is_made_or_ended() -> None:
    topic = Topic()
    server = topic.server()
    token_id, text = await made(server)
    topic.is_away = True
    for work in (server.revoke(ORG, token_id), server.create(ORG, "new", 1, "r", "k")):
        with pytest.raises(UnavailableError):
            await work
    assert is_open(server, text) and names(server) == [("ci", False)]
    topic.is_away = False
    assert (await made(server, "new", 1, key="k"))[0] != token_id
