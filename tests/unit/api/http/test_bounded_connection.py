"""The bounds of a connection, over real sockets and uvicorn around an app that only echoes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipeline.api.http import bounded_connection
from pipeline.api.http.addresses import Proxies
from pipeline.api.http.bounded_connection import (
    ADDRESS_BYTES_MAX,
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    PIPELINED_MAX,
    BoundedConnection,
    bounded_connections,
)

Port = int
CONNECTIONS, CONNECTIONS_IN_ALL = 8, 12
HOST = b"Host: here\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how long a body is; or with many bytes, or with what `X-Forwarded-For` says, without reading a body."""
    request = Request(scope, receive)
    if scope["path"] == "/many":
        await PlainTextResponse("m" * int(scope["query_string"]))(scope, receive, send)
    elif scope["path"] == "/forwarded":
        await asyncio.sleep(0.05)
        await PlainTextResponse(",".join(request.headers.getlist("x-forwarded-for")))(scope, receive, send)
    else:
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch) -> type[BoundedConnection]:
    monkeypatch.setattr(bounded_connection, "HEAD_S", 0.4)
    monkeypatch.setattr(bounded_connection, "BODY_S", 0.4)
    return bounded_connections(Proxies("10.0.0.0/8"), CONNECTIONS, CONNECTIONS_IN_ALL)


@pytest.fixture
async def port(protocol: type[BoundedConnection]) -> AsyncIterator[Port]:
    config = uvicorn.Config(echo, port=0, http=protocol, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connected(cls, port: Port) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, *parts: bytes) -> Client:
        for part in parts:
            self.writer.write(part)
        await asyncio.wait_for(self.writer.drain(), 10)
        return self

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and body of the next answer."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def refusal(self) -> tuple[int, str]:
        """Return status and code of an answer in the envelope after which the connection ends."""
        status, body = await self.answer()
        error: dict[str, Any] = json.loads(body)["error"]
        assert error.keys() >= {"message", "type", "code", "request_id"}
        assert await asyncio.wait_for(self.reader.read(), 10) == b""
        self.writer.close()
        return status, error["code"]


async def refused(port: Port, *parts: bytes) -> tuple[int, str]:
    return await (await (await Client.connected(port)).send(*parts)).refusal()


async def test_what_fits_is_answered_again_and_again(port: Port) -> None:
    client = await Client.connected(port)
    for length in (0, 1, BODY_BYTES_MAX, 3):
        await client.send(
            b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length, b"x" * length
        )
        assert await client.answer() == (200, b"%d bytes" % length)
    chunk = b"%x\r\n%s\r\n" % (BODY_BYTES_MAX // 4, b"x" * (BODY_BYTES_MAX // 4))
    await client.send(
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n", chunk * 4, b"0\r\n\r\n"
    )
    assert await client.answer() == (200, b"%d bytes" % BODY_BYTES_MAX)
    await client.send(b"GET / HTTP/1.1\r\n\r\n" * 3)
    assert [await client.answer() for _ in range(3)] == [(200, b"0 bytes")] * 3
    client.writer.close()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([b"GET /" + b"a" * ADDRESS_BYTES_MAX + b" HTTP/1.1\r\n\r\n"], (414, "address_too_long")),
        ([b"GET /?", b"a" * 10_000_000], (414, "address_too_long")),
        (
            [b"GET / HTTP/1.1\r\nX: " + b"a" * HEADER_BYTES_MAX + b"\r\n\r\n"],
            (431, "headers_too_large"),
        ),
        ([b"GET / HTTP/1.1\r\nX: ", b"a" * 10_000_000], (431, "headers_too_large")),
        ([b"GET / HTTP/1.1\r\n", b"X: a\r\n" * (HEADERS_MAX + 1), b"\r\n"], (431, "headers_too_large")),
        ([b"GET / HTTP/1.1\r\n", b"X: %s\r\n" % (b"a" * 4000) * 9, b"\r\n"], (431, "headers_too_large")),
        (
            [b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)],
            (413, "body_too_large"),
        ),
        (
            [b"PUT / HTTP/1.1\r\nContent-Length: 67108864\r\n\r\n", b"[{}," * (16 * 1024 * 1024)],
            (413, "body_too_large"),
        ),
        (
            [b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n%s\r\n" % (b"x" * 4096) * 80],
            (413, "body_too_large"),
        ),
        (
            [b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 3_000_000],
            (413, "body_too_large"),
        ),
        (
            [b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: a\r\n" * 200],
            (431, "headers_too_large"),
        ),
        ([b"NONSENSE\r\n\r\n"], (400, "invalid_request")),
        ([b"GET / HT"], (408, "request_timeout")),
        ([b"GET / HTTP/1.1\r\nX: a"], (408, "request_timeout")),
        ([b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"], (408, "request_timeout")),
        ([b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"], (408, "request_timeout")),
    ],
)
async def test_what_goes_beyond_a_bound_is_told_so(
    port: Port, sent: list[bytes], expected: tuple[int, str]
) -> None:
    assert await refused(port, *sent) == expected


async def test_a_silent_connection_is_closed(port: Port) -> None:
    client = await Client.connected(port)
    assert await asyncio.wait_for(client.reader.read(), 5) == b""


async def test_a_drip_does_not_extend_the_time(port: Port) -> None:
    client = await Client.connected(port)
    await client.send(b"GET / HTTP/1.1\r\n")

    async def drip() -> None:
        while True:
            await client.send(b"X: a\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    try:
        assert (await client.answer())[0] == 408
    finally:
        dripping.cancel()


async def test_an_address_opens_so_many_connections_and_no_more(port: Port) -> None:
    clients = [
        await (await Client.connected(port)).send(b"GET / HTTP/1.1\r\n\r\n") for _ in range(CONNECTIONS)
    ]
    assert [(await client.answer())[0] for client in clients] == [200] * CONNECTIONS
    assert await (await Client.connected(port)).refusal() == (429, "rate_limit_exceeded")
    clients[0].writer.close()
    await clients[0].writer.wait_closed()
    for client in clients[1:]:
        assert (await (await client.send(b"GET / HTTP/1.1\r\n\r\n")).answer())[0] == 200
        client.writer.close()


async def test_a_refusal_never_garbles_an_answer_before_it(port: Port) -> None:
    client = await Client.connected(port)
    half = b"PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab"
    await client.send(b"GET / HTTP/1.1\r\n\r\n" + half)
    assert await client.answer() == (200, b"0 bytes")
    assert await client.refusal() == (408, "request_timeout")


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        (b"NONSENSE\r\n\r\n", (400, "invalid_request")),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEADER_BYTES_MAX + b"\r\n\r\n", (431, "headers_too_large")),
        (b"PUT / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", (413, "body_too_large")),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnone", (400, "invalid_request")),
    ],
)
async def test_a_refusal_waits_until_what_came_whole_before_it_is_answered(
    port: Port, spoilt: bytes, expected: tuple[int, str]
) -> None:
    slow = b"GET /forwarded HTTP/1.1\r\nX-Forwarded-For: %d\r\n\r\n"
    client = await Client.connected(port)
    await client.send(slow % 1 + slow % 2 + spoilt)
    assert [await client.answer() for _ in range(2)] == [(200, b"1"), (200, b"2")]
    assert await client.refusal() == expected


async def test_requests_sent_ahead_are_bounded(port: Port) -> None:
    client = await Client.connected(port)
    await client.send(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
    answers = [await client.answer() for _ in range(PIPELINED_MAX + 1)]
    assert answers == [(200, b"0 bytes")] * (PIPELINED_MAX + 1)
    assert await client.refusal() == (429, "rate_limit_exceeded")


async def test_an_offer_of_another_protocol_is_answered_and_the_next_request_too(port: Port) -> None:
    offers = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
    )
    client = await Client.connected(port)
    for offer in offers:
        asked = b"GET / HTTP/1.1\r\n" + HOST + offer + b"\r\n"
        await client.send(asked + asked)
        assert [await client.answer() for _ in range(2)] == [(200, b"0 bytes")] * 2
        await client.send(asked)
        assert await client.answer() == (200, b"0 bytes")
    client.writer.close()


async def test_headers_after_a_body_are_none_of_the_request(port: Port) -> None:
    client = await Client.connected(port)
    await client.send(
        b"PUT /forwarded HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
    )
    assert await client.answer() == (200, b"192.0.2.1")
    client.writer.close()


@pytest.mark.parametrize(
    "framing",
    [
        b"Host: here\r\nHost: there\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: a\r\n Transfer-Encoding: chunked\r\n",
        b"X: a\rContent-Length: 2\r\n",
    ],
)
async def test_framing_that_a_proxy_may_read_in_another_way_is_refused(port: Port, framing: bytes) -> None:
    """Whoever gets two readings of where a body ends can hide a request in it (request smuggling)."""
    hidden = b"0\r\n\r\nGET /many?1 HTTP/1.1\r\n\r\n"
    assert await refused(port, b"PUT / HTTP/1.1\r\n" + framing + b"\r\n" + hidden) == (400, "invalid_request")


async def test_who_was_refused_takes_no_place(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_connection, "LINGERING_MAX", 3)
    held = [
        await (await Client.connected(port)).send(b"GET / HTTP/1.1\r\n\r\n") for _ in range(CONNECTIONS - 1)
    ]
    for client in held:
        assert (await client.answer())[0] == 200
    refused_ones = [await (await Client.connected(port)).send(b"NONSENSE\r\n\r\n") for _ in range(20)]
    answers = [await asyncio.wait_for(client.reader.read(), 10) for client in refused_ones]
    assert all(answer.startswith(b"HTTP/1.1 400") for answer in answers)
    last = await (await Client.connected(port)).send(b"GET / HTTP/1.1\r\n\r\n")
    assert (await last.answer())[0] == 200
    for client in (*held, *refused_ones, last):
        client.writer.close()


async def test_all_connections_are_bounded_and_all_are_uncounted(
    port: Port, protocol: type[BoundedConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "connections_an_address", 1_000)
    held = [await Client.connected(port) for _ in range(CONNECTIONS_IN_ALL)]
    assert await (await Client.connected(port)).refusal() == (503, "unavailable")
    for client in held:
        client.writer.close()
    async with asyncio.timeout(5):
        while protocol.open.total or protocol.open.lingering or protocol.open.from_address:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [60_000, 5_000_000])
async def test_who_does_not_take_an_answer_is_let_go_however_small_it_is(
    port: Port, protocol: type[BoundedConnection], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(bounded_connection, "UNREAD_S", 0.4)
    made = protocol.connection_made

    def with_a_small_buffer(self: BoundedConnection, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made(self, transport)

    monkeypatch.setattr(protocol, "connection_made", with_a_small_buffer)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    async with asyncio.timeout(10):
        while not protocol.open.total:
            await asyncio.sleep(0.01)
        await loop.sock_sendall(raw, b"GET /many?%d HTTP/1.1\r\nConnection: close\r\n\r\n" % size)
        while protocol.open.total:
            await asyncio.sleep(0.01)
    raw.close()
