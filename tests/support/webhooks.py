"""A webhook message, and a real https receiver on this machine that answers as told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.accounts.notices import BudgetReached, WebhookMessage
from tests.support.secured.certificates import Authority

HOST = "hooks.acme.example"
SERVER_SECRET = "session-secret-of-the-tests-0123456789"
MESSAGE = WebhookMessage(
    id="budget_reached:org_1:key_1:202606:80:500000000000",
    org="org_1",
    url=f"https://{HOST}/notices?from=metering",
    nonce="nonce",
    at_ms=1_781_288_999_123,
    about=BudgetReached("key_1", "ci", 202606, 80, 500 * 10**9, 401_250_000_001),
)


@dataclass
class Got:
    """One request that came in: its first line, headers in lower case, and body."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came in. `answers` are the statuses to come, then 200 for ever; 0 takes the request and never answers."""

    port: int = 0
    authority: Path = Path()
    got: list[Got] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def until(self, number: int) -> None:
        """Return when so many requests have come in. Raises TimeoutError after 60 s."""
        async with asyncio.timeout(60):
            while len(self.got) < number:
                await asyncio.sleep(0.02)

    def tls(self) -> ssl.SSLContext:
        """Return what trusts this receiver and nobody else."""
        return ssl.create_default_context(cafile=self.authority)

    async def resolve(self, _host: str, _port: int) -> Sequence[str]:
        """Find every host here."""
        return ["127.0.0.1"]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request, and answer it."""
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = [line.split(": ", 1) for line in head[1:] if line]
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append(Got(head[0], headers, body))
            status = self.answers.pop(0) if self.answers else 200
            if status == 0:
                await asyncio.sleep(60)
            writer.write(
                f"HTTP/1.1 {status} X\r\nLocation: https://{HOST}:{self.port}/other\r\nContent-Length: 2\r\n\r\nok".encode()
            )
            await writer.drain()
        writer.close()


@asynccontextmanager
async def receiver(home: Path) -> AsyncIterator[Receiver]:
    """Run a receiver with a certificate for HOST, of an authority of its own."""
    authority = Authority(home)
    issued = authority.issue("receiver", hosts=(HOST,))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    running = Receiver(authority=authority.file)
    server = await asyncio.start_server(running.answer, "127.0.0.1", 0, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
