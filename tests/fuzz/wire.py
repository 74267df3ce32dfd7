"""One connection at the level of sockets: what was answered, and how the connection ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzz.malformed import RawRequest

WHOLE_LIMIT_S = 20.0
"""Within this a whole request has its answer."""
PATIENCE_S = 0.2
"""So long an answer to what may be no whole request is waited for; then the client says that nothing follows."""
END_LIMIT_S = 15.0
"""Then the connection ends within this: the server waits 10 s for a head, and 2 s for what a client still sends."""

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"(?:^|\r\n)content-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"(?:^|\r\n)connection: *close", re.IGNORECASE)
_CHUNKED = re.compile(rb"(?:^|\r\n)transfer-encoding: *chunked", re.IGNORECASE)


@dataclass(frozen=True)
class Exchange:
    """The statuses of the final answers, and what is wrong with how it went, if anything."""

    statuses: Sequence[int]
    wrong: str = ""


async def exchange(host: str, port: int, request: RawRequest) -> Exchange:
    """Send over a connection of its own and return what came of it."""
    reader, writer = await asyncio.open_connection(host, port)
    received = bytearray()
    try:
        for piece in request.pieces:
            writer.write(piece)
            await writer.drain()
            if len(request.pieces) > 1:
                await asyncio.sleep(0.001)
        return await _answers(reader, writer, request, received)
    except ConnectionError as error:
        found = answers_in(bytes(received), ended=True)
        is_told = found.closes or len(found.statuses) >= max(1, request.whole)
        return Exchange(found.statuses, "" if is_told else f"the connection was reset: {error!r}")
    finally:
        writer.transport.abort()


async def _answers(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: RawRequest, received: bytearray
) -> Exchange:
    wanted, said_the_end = max(1, request.whole), False
    limit_s = WHOLE_LIMIT_S if request.whole else PATIENCE_S
    while True:
        try:
            more = await asyncio.wait_for(reader.read(262_144), limit_s)
        except TimeoutError:
            if request.whole or said_the_end:
                found = answers_in(bytes(received), ended=False)
                return Exchange(found.statuses, f"it hangs after {bytes(received[-200:])!r}")
            writer.write_eof()
            said_the_end, limit_s = True, END_LIMIT_S
            continue
        received += more
        found = answers_in(bytes(received), ended=not more)
        if found.closes or len(found.statuses) >= wanted or (not more and not request.whole):
            return Exchange(found.statuses)
        if not more:
            said = f"the answer broke off: {found.rest[:200]!r}" if found.rest else "it is not answered"
            return Exchange(found.statuses, said)


@dataclass(frozen=True)
class Answers:
    """The statuses of the final answers that are there in whole, what follows, and whether the last says that it is the last."""

    statuses: Sequence[int]
    rest: bytes
    closes: bool


def answers_in(received: bytes, *, ended: bool) -> Answers:
    """Return what was answered, by what was received.

    What is asked with `HEAD` is answered without the body that is announced: such an answer is taken for whole where
    the next one, or the end, comes straight after its head.
    """
    statuses: list[int] = []
    closes = False
    while (head := _HEAD.match(received)) is not None:
        status, rest = int(head[1]), received[head.end() :]
        if 100 <= status < 200:
            received = rest
            continue
        size = _size(head[2], rest, ended=ended)
        if status in (204, 304) or rest.startswith(b"HTTP/1.1 ") or (ended and not rest):
            size = 0
        if len(rest) < size:
            break
        statuses.append(status)
        received, closes = rest[size:], _CLOSE.search(head[2]) is not None
    return Answers(statuses, received, closes)


def _size(head: bytes, rest: bytes, *, ended: bool) -> int:
    """Return how long a body is, more than there is where that is not known yet."""
    length = _LENGTH.search(head)
    if length is not None:
        return int(length[1])
    if _CHUNKED.search(head):
        end = rest.find(b"0\r\n\r\n")
        return end + 5 if end >= 0 else len(rest) + 1
    return len(rest) if ended else len(rest) + 1
