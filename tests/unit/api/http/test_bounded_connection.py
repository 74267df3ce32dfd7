"""The bounds of a connection, over real sockets and uvicorn around an app that only echoes."""

from __future__ import annotations

import asyncio
import json
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
    bounded_connections,
)

Port = int
CONNECTIONS = 8
HOST = b"Host: here\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how long a body is."""
    try:
        body = await Request(scope, receive).body()
    except ClientDisconnect:
        return
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    monkeypatch.setattr(bounded_connection, "HEAD_S", 0.4)
    monkeypatch.setattr(bounded_connection, "BODY_S", 0.4)
    protocol = bounded_connections(Proxies("10.0.0.0/8"), CONNECTIONS)
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
