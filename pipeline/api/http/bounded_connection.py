"""Bound what a connection may cost before anybody knows who is asking: sizes, times, and how many there are.

Owns: the limits of a request's head and body, the times they may take, the count of connections, and the answers
to who goes beyond: 408, 413, 414, 429, 431 and 503, in the envelope of all failures.
Called by: uvicorn, which makes one for each connection; `api/server/main.py` hands the class over.
Next: uvicorn's own protocol parses the bytes and calls the app.

uvicorn's parser (httptools) has no limit of its own: a header without an end grows in its memory, and silent
connections stay open. What comes in is counted here as it is parsed, so no more than the limit and one read of the
socket (256 KiB) is held of any connection. A refusal waits for its turn: requests that came whole before it on the same
connection are answered first. After a refusal the client is listened to for `LINGER_S` more, unread: closing at once
would reset the connection and take the answer away from a client that is still sending.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any, Literal, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.api.http import errors, metrics
from pipeline.api.http.addresses import Proxies, counted_as
from pipeline.api.http.headers import DEFAULT_HEADERS
from pipeline.outcomes import RefusalCode

ADDRESS_BYTES_MAX = 8 * 1024
"""Of a request's path and query."""
HEADER_BYTES_MAX = 8 * 1024
"""Of one header, name and value."""
HEADERS_MAX = 100
HEAD_BYTES_MAX = 32 * 1024
BODY_BYTES_MAX = 256 * 1024
"""No route needs more: a webhook of Razorpay has a few KiB."""
FRAMED_BYTES_MAX = 8 * BODY_BYTES_MAX
"""Of a body as it travels: chunks carry their lengths, and tiny ones more of that than of the body."""

HEAD_S = 10.0
BODY_S = 30.0
UNREAD_S = 60.0
"""After so long without taking anything of an answer, a client is gone."""
LINGER_S = 2.0
LINGERING_MAX = 256
"""Of all clients that were refused, so many are listened to. Others are let go at once, and may miss their answer."""

CONNECTIONS_MAX = 2048
PIPELINED_MAX = 16
"""Requests that may wait on one connection for the answers before them. No browser sends any ahead; a read of the
socket has room for thousands."""


class _BeyondError(Exception):
    """A limit is exceeded: raised out of the parser's callbacks, to stop it."""


class OpenConnections:
    """How many connections a server has: in all, from each address, and of those that were refused and linger."""

    def __init__(self) -> None:
        """Start with none."""
        self.total = self.lingering = 0
        self.from_address: Counter[str] = Counter()

    def opened(self, address: str) -> None:
        """Count one."""
        self.total += 1
        self.from_address[address] += 1

    def ended(self, address: str) -> None:
        """Uncount one: it is closed, or is refused and served no more."""
        self.total -= 1
        self.from_address[address] -= 1
        if not self.from_address[address]:
            del self.from_address[address]


class BoundedConnection(HttpToolsProtocol):
    """A connection of a browser or a program. The limits of the deployment are attributes of a subclass."""

    proxies = Proxies("")
    connections_an_address = 256
    connections_max = CONNECTIONS_MAX
    open = OpenConnections()

    def __init__(self, *args: Any, **options: Any) -> None:
        """Prepare for uvicorn's `connection_made`."""
        super().__init__(*args, **options)
        self._address = ""
        self._awaiting: Literal["head", "body"] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._bytes = self._head_bytes = self._headers = self._hosts = self._body_bytes = 0
        self._unanswered = 0
        self._is_counted = self._refused = self._lingers = False
        self._refusal: bytes | None = None
        self._code: RefusalCode | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request, unless there are too many connections already."""
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        self._address = counted_as(peer)
        if self.open.total >= self.connections_max:
            self._refuse(RefusalCode.UNAVAILABLE)
        elif self.open.from_address[self._address] >= self.connections_an_address and not self.proxies.trusts(
            peer
        ):
            self._refuse(RefusalCode.RATE_LIMIT_EXCEEDED)
        else:
            self.open.opened(self._address)
            self._is_counted = True
            self._await("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and uncount it."""
        self._await(None)
        if self._unread is not None:
            self._unread.cancel()
        self._uncount()
        self.open.lingering -= self._lingers
        self._lingers = False
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count and parse what arrived; after a refusal it is thrown away."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        if self._awaiting is None:
            self._await("head", HEAD_S)
        awaiting = self._awaiting
        self._parse(data)
        if self._refused or self._awaiting != awaiting:
            return
        self._bytes += len(data)
        if awaiting == "head" and self._bytes > HEAD_BYTES_MAX:
            self._refuse(RefusalCode.HEADERS_TOO_LARGE)
        elif awaiting == "body" and self._bytes > FRAMED_BYTES_MAX:
            self._refuse(RefusalCode.BODY_TOO_LARGE)

    def _parse(self, data: bytes) -> None:
        """Have uvicorn's parser read, and call back. No protocol but HTTP/1 is spoken: who offers one gets HTTP/1."""
        while data and not self._refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser stops after a request that offers another protocol; more requests may follow it.
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("this is no well-formed HTTP request")
            else:
                return

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_bytes = self._headers = self._hosts = self._body_bytes = 0
        self._code = None
        if self._awaiting is None:
            self._await("head", HEAD_S)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        super().on_url(url)
        self._head_bytes += len(url)
        if len(self.url) > ADDRESS_BYTES_MAX:
            self._beyond(RefusalCode.ADDRESS_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head. Those after a body in chunks are counted, and otherwise as if they were not there.

        The app would take them for headers of the head (RFC 9110 section 6.5.1 forbids that): a proxy that sets
        `X-Forwarded-For` there may pass another one on here.
        """
        self._head_bytes += len(name) + len(value)
        self._headers += 1
        if (
            len(name) + len(value) > HEADER_BYTES_MAX
            or self._headers > HEADERS_MAX
            or self._head_bytes > HEAD_BYTES_MAX
        ):
            self._beyond(RefusalCode.HEADERS_TOO_LARGE)
        if self._awaiting == "body":
            return
        super().on_header(name, value)
        lower = name.lower()
        self._hosts += lower == b"host"
        if self._hosts > 1:
            # A proxy may have taken the other one for the one that counts (RFC 9112 section 3.2).
            self._beyond(RefusalCode.INVALID_REQUEST)
        if lower == b"content-length" and _declared(value) > BODY_BYTES_MAX:
            self._code = RefusalCode.BODY_TOO_LARGE

    def on_headers_complete(self) -> None:
        """Begin to wait for the body, and call the app."""
        if self._code is not None:
            self._beyond(self._code)
        if len(self.pipeline) >= PIPELINED_MAX:
            self._beyond(RefusalCode.RATE_LIMIT_EXCEEDED)
        super().on_headers_complete()
        self._unanswered += 1
        self._await("body", BODY_S)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._beyond(RefusalCode.BODY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing more."""
        self._await(None)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not take its answer."""
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._watch_unread()

    def on_response_complete(self) -> None:
        """Go on with the next request, or with the refusal that waited for its turn."""
        self._unanswered -= 1
        super().on_response_complete()
        # What is too little to pause the writing for must not stay for ever either: a closed connection waits for it.
        self._watch_unread()
        if self._refused and not self._unanswered:
            self._let_go()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser, or a limit inside of it, did not take."""
        code, self._code = self._code or RefusalCode.INVALID_REQUEST, None
        self._refuse(code, msg if code is RefusalCode.INVALID_REQUEST else "")

    def _watch_unread(self) -> None:
        """Give the client time to take what is written by now, if it has not."""
        if self._unread is not None:
            self._unread.cancel()
        has_unread = self.transport.get_write_buffer_size() > 0
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort) if has_unread else None

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self.open.ended(self._address)

    def _await(self, part: Literal["head", "body"] | None, limit_s: float = 0) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaiting, self._bytes = part, 0
        self._deadline = None if part is None else self.loop.call_later(limit_s, self._too_late)

    def _too_late(self) -> None:
        # Browsers open connections ahead of what they may want to ask: on these an answer would be a surprise.
        is_silent = self._awaiting == "head" and self._bytes == 0 and self.cycle is None
        if is_silent:
            self._await(None)
            self.transport.close()
        else:
            self._refuse(RefusalCode.REQUEST_TIMEOUT)

    def _beyond(self, code: RefusalCode) -> NoReturn:
        self._code = code
        raise _BeyondError(code)

    def _refuse(self, code: RefusalCode, message: str = "") -> None:
        """Serve what came whole before, answer with a code, and let the connection go."""
        is_half, self._refused = self._awaiting == "body", True
        self._await(None)
        metrics.CONNECTIONS_REFUSED.labels(code).inc()
        cycle = self.cycle
        if not is_half or not cycle.response_started:
            self._refusal = _answer(code, message)
        if is_half and not cycle.response_started:
            # The app gets no more of this request's body, and what it may still answer goes nowhere.
            cycle.disconnected = True
            cycle.message_event.set()
            self._unanswered -= 1
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
        if not self._unanswered:
            self._let_go()

    def _let_go(self) -> None:
        """Write the refusal, unless the request was answered before it came to that, and end the connection."""
        self._uncount()
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            self.transport.write(self._refusal)
        if self.open.lingering >= LINGERING_MAX:
            self.transport.close()
            return
        self._lingers = True
        self.open.lingering += 1
        # What was paused because the app had enough to read is read on, and thrown away.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_S, self.transport.close)


def bounded_connections(
    proxies: Proxies, connections_an_address: int, connections_max: int = CONNECTIONS_MAX
) -> type[BoundedConnection]:
    """Return the protocol for uvicorn, with the limits of a deployment."""
    limits = {
        "proxies": proxies,
        "connections_an_address": connections_an_address,
        "connections_max": connections_max,
        "open": OpenConnections(),
    }
    return type("BoundedConnection", (BoundedConnection,), limits)


def _declared(value: bytes) -> int:
    """Return the length that a header declares, 0 for what is none: the parser refuses that by itself."""
    return int(value[:20]) if value.isdigit() else 0


def _answer(code: RefusalCode, message: str) -> bytes:
    request_id = uuid.uuid4().hex
    retry = {"Retry-After": "1"} if code.status in (429, 503) else {}
    answer = errors.answer(errors.ApiError(code, message, headers=retry), request_id)
    headers = {**DEFAULT_HEADERS, "X-Request-Id": request_id, "Connection": "close"}
    lines = [
        *(b"%s: %s\r\n" % pair for pair in answer.raw_headers),
        *(f"{name}: {value}\r\n".encode() for name, value in headers.items()),
    ]
    return b"".join([STATUS_LINE[code.status], *lines, b"\r\n", bytes(answer.body)])
