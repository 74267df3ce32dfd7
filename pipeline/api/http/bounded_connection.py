"""Bound what a connection may cost before anybody knows who is asking: sizes, times, and how many there are.

Owns: the limits of a request's head and body, the times they may take, the count of connections, and the answers
to who goes beyond: 408, 413, 414, 429, 431 and 503, in the envelope of all failures.
Called by: uvicorn, which makes one for each connection; `api/server/main.py` hands the class over.
Next: uvicorn's own protocol parses the bytes and calls the app.

uvicorn's parser (httptools) has no limit of its own: a header without an end grows in its memory, and silent
connections stay open. What comes in is counted here as it is parsed, so no more than the limit and one read of the
socket (256 KiB) is held of any connection. A refusal is written only where no earlier answer is under way on the
connection; else the connection is closed. After a refusal the client is listened to for `LINGER_S` more, unread:
closing at once would reset the connection and take the answer away from a client that is still sending.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, Literal, NoReturn

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.api.http import errors, metrics
from pipeline.api.http.addresses import Proxies
from pipeline.api.http.headers import DEFAULT_HEADERS
from pipeline.outcomes import RefusalCode

log = logging.getLogger(__name__)

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

CONNECTIONS_MAX = 2048


class _BeyondError(Exception):
    """A limit is exceeded: raised out of the parser's callbacks, to stop it."""


class BoundedConnection(HttpToolsProtocol):
    """A connection of a browser or a program. The limits of the deployment are attributes of a subclass."""

    proxies = Proxies("")
    connections_an_address = 256

    def __init__(self, *args: Any, **options: Any) -> None:
        """Prepare for uvicorn's `connection_made`."""
        super().__init__(*args, **options)
        self._awaiting: Literal["head", "body"] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._bytes = self._head_bytes = self._body_bytes = 0
        self._refused = False
        self._code: RefusalCode | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request, unless there are too many connections already."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(RefusalCode.UNAVAILABLE)
        elif self._of_this_address() > self.connections_an_address:
            self._refuse(RefusalCode.RATE_LIMIT_EXCEEDED)
        else:
            self._await("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._await(None)
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count and parse what arrived; after a refusal it is thrown away."""
        if self._refused:
            return
        if self._awaiting is None:
            self._await("head", HEAD_S)
        awaiting = self._awaiting
        super().data_received(data)
        if self._refused or self._awaiting != awaiting:
            return
        self._bytes += len(data)
        if awaiting == "head" and self._bytes > HEAD_BYTES_MAX:
            self._refuse(RefusalCode.HEADERS_TOO_LARGE)
        elif awaiting == "body" and self._bytes > FRAMED_BYTES_MAX:
            self._refuse(RefusalCode.BODY_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0
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
        """Take a header, of the head or, after a body in chunks, of its end."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        if (
            len(name) + len(value) > HEADER_BYTES_MAX
            or len(self.headers) > HEADERS_MAX
            or self._head_bytes > HEAD_BYTES_MAX
        ):
            self._beyond(RefusalCode.HEADERS_TOO_LARGE)
        if name.lower() == b"content-length" and _declared(value) > BODY_BYTES_MAX:
            self._code = RefusalCode.BODY_TOO_LARGE

    def on_headers_complete(self) -> None:
        """Begin to wait for the body, and call the app."""
        if self._code is not None:
            self._beyond(self._code)
        super().on_headers_complete()
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
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser, or a limit inside of it, did not take."""
        code, self._code = self._code or RefusalCode.INVALID_REQUEST, None
        self._refuse(code, msg if code is RefusalCode.INVALID_REQUEST else "")

    def _of_this_address(self) -> int:
        peer = self.client[0] if self.client else ""
        if self.proxies.trusts(peer):
            return 0
        mine = [each for each in self.connections if isinstance(each, BoundedConnection) and each.client]
        return sum(each.client is not None and each.client[0] == peer for each in mine)

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

    def _may_answer(self) -> bool:
        """Return whether no other answer is under way or was given, which a refusal would garble."""
        cycle = self.cycle
        if self._awaiting == "body":
            return cycle is not None and not cycle.response_started and not self.pipeline
        return cycle is None or cycle.response_complete

    def _refuse(self, code: RefusalCode, message: str = "") -> None:
        """Answer with a code and let the connection go."""
        may_answer, self._refused = self._may_answer(), True
        self._await(None)
        metrics.CONNECTIONS_REFUSED.labels(code).inc()
        if not may_answer or self.transport.is_closing():
            self.transport.close()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # The app is waiting for the rest of the body.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # What was paused because the app had enough to read is read on, and thrown away.
        self.flow.resume_reading()
        self.transport.write(_answer(code, message))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_S, self.transport.close)


def bounded_connections(proxies: Proxies, connections_an_address: int) -> type[BoundedConnection]:
    """Return the protocol for uvicorn, with the limits of a deployment."""
    limits = {"proxies": proxies, "connections_an_address": connections_an_address}
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
