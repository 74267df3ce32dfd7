"""(h) Holding out: what a flood from one address costs the server's memory, and how long others wait meanwhile.

Owns: the floods, and members of other addresses who ask for `/me/activity` at a steady pace.
Called by: `bench/__main__.py`; each flood is this module again, as a process of its own (`python -m bench.floods`).

Everything runs over loopback on one machine: the flood comes from 127.0.0.1, the members from 127.0.0.2, as the
server's bounds are for each address. A flood takes CPU from the server here, which it would not over a network.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bench.processes import SESSION_SECRET, Bench, Process, bench
from bench.report import Report, percentile
from pipeline.api.http.sessions import issue

HOST, MEMBERS_ADDRESS = "127.0.0.1", "127.0.0.2"
MEMBERS, ASKED_EVERY_S = 8, 0.4
ANSWER_LIMIT_S = 20.0
SAMPLE_EVERY_S = 0.05
MIB = 2**20

Writer = asyncio.StreamWriter


@dataclass
class Seen:
    """What the members and the kernel saw during a flood."""

    took_ms: list[float] = field(default_factory=list)
    failed: int = 0
    memory: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Flood:
    """So many connections at once, each of which does `one` again and again until the time is over.

    `at_status`: not at the API's port but at the one where the same process says how it is.
    """

    connections: int
    one: Callable[[int, float], Awaitable[None]]
    at_status: bool = False


async def floods(*, full: bool) -> Report:
    """(h) The server under each flood, started anew for each."""
    seconds = 30.0 if full else 8.0
    report = Report(
        "h",
        f"one address floods the server for {seconds:.0f} s, others ask for /me/activity {MEMBERS / ASKED_EVERY_S:.0f} times a second",
        ("flood", "MiB before", "MiB at most", "p50 ms", "p99 ms", "most ms", "answered", "failed"),
    )
    async with bench(2) as run:
        run.worker()
        for name in ("none", *FLOODS):
            server = run.server()
            await run.ready(server)
            before, seen = server.memory_bytes, await _under(run, server, name, seconds)
            took = seen.took_ms or [float("nan")]
            report.add(
                name,
                before // MIB,
                max(seen.memory) // MIB,
                percentile(took, 0.5),
                percentile(took, 0.99),
                max(took),
                len(seen.took_ms),
                seen.failed,
            )
            server.stop()
    report.notes.append(f"failed: no answer of 200 within {ANSWER_LIMIT_S:.0f} s.")
    return report


async def _under(run: Bench, server: Process, name: str, seconds: float) -> Seen:
    """Return what was seen while a flood went on. The members go on for a moment after it."""
    port, seen = run.http_url.rpartition(":")[2], Seen()
    now_ms = int(time.time() * 1000)
    tokens = [issue(SESSION_SECRET, f"org_{n}", "owner", "x@bench.example", now_ms) for n in range(MEMBERS)]
    flooded = run.status_url if name in FLOODS and FLOODS[name].at_status else run.http_url
    at = flooded.rpartition(":")[2]
    flood = run.program("floods", name, at, str(seconds)) if name in FLOODS else None
    until = time.monotonic() + seconds + 2
    tasks = [asyncio.create_task(_member(int(port), token, until, seen)) for token in tokens]
    while not all(task.done() for task in tasks):
        seen.memory.append(server.memory_bytes)
        await asyncio.sleep(SAMPLE_EVERY_S)
    if flood is not None:
        flood.stop()
    server.check()
    return seen


async def _member(port: int, token: str, until: float, seen: Seen) -> None:
    """Ask at a steady pace, on connections of one's own: a late answer does not put the next question off."""
    asked: set[asyncio.Task[None]] = set()
    while time.monotonic() < until:
        asked.add(asyncio.create_task(_ask(port, token, seen)))
        await asyncio.sleep(ASKED_EVERY_S)
    await asyncio.gather(*asked)


async def _ask(port: int, token: str, seen: Seen) -> None:
    started = time.perf_counter()
    writer: Writer | None = None
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection(HOST, port, local_addr=(MEMBERS_ADDRESS, 0))
            head = f"GET /me/activity HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.read()
    except (OSError, TimeoutError):
        answer = b""
    finally:
        if writer is not None:
            writer.close()
    if answer.startswith(b"HTTP/1.1 200"):
        seen.took_ms.append((time.perf_counter() - started) * 1000)
    else:
        seen.failed += 1


async def _bodies(port: int, _until: float) -> None:
    """Send 64 MiB of small objects, which take thirty times as much once they are parsed."""
    body = b"[" + b"{}," * (64 * MIB // 3) + b"{}]"
    head = b"PUT /me/billing/address HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(head % len(body) + body)
        await writer.drain()
        await reader.read(65_536)
    finally:
        writer.transport.abort()


async def _headers(port: int, until: float) -> None:
    """Send one header without an end."""
    await _pour(port, until, b"GET / HTTP/1.1\r\nHost: bench\r\nX: ", b"a" * 65_536, 0.0)


async def _silent(port: int, until: float) -> None:
    """Send nothing."""
    await _pour(port, until, b"", b"", 1.0)


async def _half_headed(port: int, until: float) -> None:
    """Send a header a second."""
    await _pour(port, until, b"GET / HTTP/1.1\r\nHost: bench\r\n", b"X: a\r\n", 1.0)


async def _half_bodied(port: int, until: float) -> None:
    """Announce a body, send half of it, and then a byte a second."""
    head = (
        b"PUT /me/billing/address HTTP/1.1\r\nHost: bench\r\nContent-Length: 200000\r\n\r\n" + b" " * 100_000
    )
    await _pour(port, until, head, b" ", 1.0)


async def _pour(port: int, until: float, first: bytes, then: bytes, every_s: float) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(first)
        while time.monotonic() < until and not reader.at_eof():
            writer.write(then)
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(65_536), max(every_s, 0.001))
    finally:
        writer.transport.abort()


async def _ahead(port: int, _until: float) -> None:
    """Send 10,000 requests before the first is answered, and take what comes of them."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /v1/catalog HTTP/1.1\r\nHost: bench\r\n\r\n" * 10_000)
        while await reader.read(65_536):
            pass
    finally:
        writer.transport.abort()


async def _status(port: int, _until: float) -> None:
    """Ask the status port for the metrics: it takes one request a connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        while await reader.read(65_536):
            pass
    finally:
        writer.transport.abort()


def _fast(path: str, *lines: str) -> Callable[[int, float], Awaitable[None]]:
    """Return what asks for a path as fast as it is answered."""

    async def one(port: int, until: float) -> None:
        now_ms = int(time.time() * 1000)
        token = issue(SESSION_SECRET, "org_flood", "owner", "x@bench.example", now_ms)
        head = "".join(f"{line}\r\n" for line in (f"Authorization: Bearer {token}", *lines))
        asked = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{head}\r\n".encode()
        reader, writer = await asyncio.open_connection(HOST, port, limit=16 * MIB)
        try:
            while time.monotonic() < until:
                writer.write(asked)
                answered = await reader.readuntil(b"\r\n\r\n")
                length = int(answered.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                await reader.readexactly(length)
        finally:
            writer.transport.abort()

    return one


FLOODS = {
    "bodies of 64 MiB": Flood(8, _bodies),
    "headers without end": Flood(48, _headers),
    "3,000 silent connections": Flood(3_000, _silent),
    "3,000 half heads": Flood(3_000, _half_headed),
    "3,000 half bodies": Flood(3_000, _half_bodied),
    "/me/keys, 48 at once": Flood(48, _fast("/me/keys")),
    "/metrics, 48 strangers": Flood(48, _fast("/metrics", "X-Forwarded-For: 192.0.2.1")),
    "/metrics, 48 from the machine": Flood(48, _fast("/metrics")),
    "/openapi.json, 48 at once": Flood(48, _fast("/openapi.json")),
    "10,000 requests ahead, 20 at once": Flood(20, _ahead),
    "/metrics of the status port, 48 at once": Flood(48, _status, at_status=True),
}


async def _flood(name: str, port: int, seconds: float) -> None:
    """Flood: where a connection is let go, another is opened."""
    flood, until = FLOODS[name], time.monotonic() + seconds

    async def again() -> None:
        while time.monotonic() < until:
            # That it is refused or reset is what the server is for.
            with suppress(OSError, EOFError):
                await flood.one(port, until)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(again() for _ in range(flood.connections)))


if __name__ == "__main__":
    asyncio.run(_flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
