"""HTTP askers in a process of their own, so that what they cost is not the server's.

Owns: a client that does as little as possible.
Called by: `bench/answers.py`, `bench/past.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Asked:
    """What came of asking for a while: milliseconds of each answer, bytes of all, seconds it took."""

    took_ms: list[float]
    answer_bytes: int
    seconds: float


class HttpRequest(NamedTuple):
    """A path to GET with a session's token, or to POST where there is a body of JSON."""

    path: str
    token: str
    body: bytes = b""

    def raw(self) -> bytes:
        """Return the bytes to send."""
        head = f"{'POST' if self.body else 'GET'} {self.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n"
        if self.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        return head.encode() + b"\r\n" + self.body


def ask_http(port: int, requests: Sequence[HttpRequest], at_once: int, seconds: float) -> Asked:
    """Send requests in turn, over `at_once` connections, for some seconds.

    Raises RuntimeError for an answer that is no 200.
    """
    return asyncio.run(_ask_http(port, requests, at_once, seconds))


async def _ask_http(port: int, requests: Sequence[HttpRequest], at_once: int, seconds: float) -> Asked:
    took_ms: list[float] = []
    answer_bytes, turn = 0, iter(range(1_000_000_000))
    started = time.perf_counter()

    async def one() -> None:
        nonlocal answer_bytes
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        while (at := time.perf_counter()) - started < seconds:
            request = requests[next(turn) % len(requests)]
            writer.write(request.raw())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{request.path}: {head[:40]!r} {body[:300]!r}")
            took_ms.append((time.perf_counter() - at) * 1000)
            answer_bytes += length
        writer.close()

    await asyncio.gather(*(one() for _ in range(at_once)))
    return Asked(took_ms, answer_bytes, time.perf_counter() - started)
